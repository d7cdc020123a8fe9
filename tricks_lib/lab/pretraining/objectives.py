"""What the four mini checkpoints are trained to do: a tokenizer, a network, a batch and a loss for each.

bert      masked language modelling (Devlin et al. 2019, section 3.1) without next-sentence prediction
          (Liu et al. 2019)
xlnet     permutation language modelling with two streams and, in part of the batches, memory
          (Yang et al. 2019, sections 2.2 to 2.4)
gpt2      next-token prediction (Radford et al. 2019)
gpt2_zh   the same, one token per character, in the form of the common Chinese GPT-2:
          ``[CLS] text [SEP]``, read with ``BertTokenizer``

In bert and xlnet the vocabulary is scored at the selected positions only, which is most of what makes a CPU
run affordable.
"""

from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F


def choose(rows, share, generator, first=0, last=None):
    """(B, K) different positions of each row in [first, last), in random order; K = share of them, at least
    one.
    """
    inner = (rows.shape[1] if last is None else last) - first
    return (
        torch.rand(len(rows), inner, generator=generator).topk(max(1, round(share * inner)), dim=1).indices
        + first
    )


class Bert:
    corpus, objective, pads = "corpus_en", "masked language modelling", 2  # pads: special tokens a row adds
    lines = False  # rows begin at the beginning of a line

    @staticmethod
    def train_tokenizer(texts, vocab_size, folder):
        """A lower-casing WordPiece tokenizer as BERT's."""
        from tokenizers import BertWordPieceTokenizer
        from transformers import BertTokenizerFast

        wordpiece = BertWordPieceTokenizer(lowercase=True)
        wordpiece.train_from_iterator(
            texts, vocab_size=vocab_size, min_frequency=2, limit_alphabet=200, show_progress=False
        )
        BertTokenizerFast(tokenizer_object=wordpiece._tokenizer).save_pretrained(folder)

    @staticmethod
    def build(recipe, tokenizer):
        from transformers import BertConfig, BertForMaskedLM

        return BertForMaskedLM(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.hidden_size,
                num_hidden_layers=recipe.num_layers,
                num_attention_heads=recipe.num_heads,
                intermediate_size=4 * recipe.hidden_size,
                max_position_embeddings=recipe.max_positions,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                attn_implementation="eager",  # on a CPU its backward is faster than the fused kernel's
            )
        )

    @staticmethod
    def batch(body, tokenizer, recipe, generator):
        """BERT's corruption: of the selected tokens 80 % become ``[MASK]``, 10 % a random token, 10 % stay.

        Args:
            body: (B, T-2) ids.

        Returns:
            corrupted ids (B, T), selected positions (B, K), original ids there (B, K).
        """
        rows = F.pad(F.pad(body, (1, 0), value=tokenizer.cls_token_id), (0, 1), value=tokenizer.sep_token_id)
        positions = choose(rows, recipe.share, generator, 1, rows.shape[1] - 1)
        labels = rows.gather(1, positions)
        draw = torch.rand(labels.shape, generator=generator)
        noise = torch.randint(5, len(tokenizer), labels.shape, generator=generator)
        replacement = torch.where(draw < 0.8, tokenizer.mask_token_id, torch.where(draw < 0.9, noise, labels))
        return rows.scatter(1, positions, replacement), positions, labels

    @staticmethod
    def loss(model, input_ids, positions, labels):
        """Cross-entropy at the selected positions: hidden (B, T, H) -> picked (B*K, H) -> logits (B*K, V)."""
        hidden = model.bert(input_ids)[0]
        picked = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)
        return F.cross_entropy(model.cls(picked).float(), labels.flatten())

    @staticmethod
    def finished(model, recipe):
        """The encoder that is shipped; ``AutoModel`` expects a pooler, which masked language modelling leaves
        at its random start.

        The three embedding tables are scaled together to the size they started with. The function is the
        same, since a LayerNorm follows their sum, but Adam moves each weight by about its learning rate,
        whatever the weight's size: a table that has grown in pretraining is hardly moved in fine-tuning.
        """
        from transformers import BertModel

        torch.manual_seed(recipe.seed)
        encoder = BertModel(model.config)
        encoder.load_state_dict(model.bert.state_dict(), strict=False)
        tables = [
            table.weight for table in encoder.embeddings.children() if isinstance(table, torch.nn.Embedding)
        ]
        factor = encoder.config.initializer_range / tables[0].detach().square().mean().sqrt()
        for table in tables:
            table.detach().mul_(factor)
        encoder.config.hidden_dropout_prob = encoder.config.attention_probs_dropout_prob = (
            0.1  # fine-tuning's default
        )
        return encoder


class XLNet:
    corpus, objective, pads = "corpus_en", "permutation language modelling", 2
    lines = False
    segment = 128  # tokens of a segment; what is longer is memory

    @staticmethod
    def train_tokenizer(texts, vocab_size, folder):
        """A Unigram tokenizer with XLNet's special tokens; it pads on the left."""
        from tokenizers import (
            Regex,
            Tokenizer,
            decoders,
            models,
            normalizers,
            pre_tokenizers,
            processors,
            trainers,
        )
        from transformers import XLNetTokenizerFast

        special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
        unigram = Tokenizer(models.Unigram())
        unigram.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        unigram.pre_tokenizer = pre_tokenizers.Metaspace()
        unigram.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        unigram.train_from_iterator(texts, trainer)
        ids = {token: unigram.token_to_id(token) for token in ("<sep>", "<cls>")}
        unigram.post_processor = processors.TemplateProcessing(
            single="$A:0 <sep>:0 <cls>:2",
            pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
            special_tokens=list(ids.items()),
        )
        XLNetTokenizerFast(tokenizer_object=unigram).save_pretrained(folder)

    @staticmethod
    def build(recipe, tokenizer):
        from transformers import XLNetConfig, XLNetLMHeadModel

        return XLNetLMHeadModel(
            XLNetConfig(
                vocab_size=len(tokenizer),
                d_model=recipe.hidden_size,
                n_layer=recipe.num_layers,
                n_head=recipe.num_heads,
                d_inner=4 * recipe.hidden_size,
                dropout=0.0,
                mem_len=recipe.max_positions,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )

    @staticmethod
    def batch(body, tokenizer, recipe, generator):
        """A permutation of each row in which the selected tokens come last; a long row is cut into a memory
        and a segment.

        Args:
            body: (B, T-2) ids.

        Returns:
            ids of the memory (B, M), M = 0 in short rows; ids (B, T); ``perm_mask`` (B, T, T), 1 where row i
            may not see column j; ``target_mapping`` (B, K, T), one-hot; original ids of the targets (B, K).
        """
        inner = min(body.shape[1], XLNet.segment - 2)  # and <sep>, <cls>
        memory, body = body.split([body.shape[1] - inner, inner], dim=1)
        rows = F.pad(F.pad(body, (0, 1), value=tokenizer.sep_token_id), (0, 1), value=tokenizer.cls_token_id)
        B, T = rows.shape
        targets = choose(rows, recipe.share, generator, 0, T - 2)  # in the order of their prediction
        place = torch.full((B, T), -1).scatter(
            1, targets, torch.arange(targets.shape[1]).expand(B, -1)
        )  # -1: seen by all
        perm_mask = ((place[:, :, None] <= place[:, None, :]) & (place[:, None, :] >= 0)).float()
        return memory, rows, perm_mask, F.one_hot(targets, T).float(), rows.gather(1, targets)

    @staticmethod
    def loss(model, memory, input_ids, perm_mask, target_mapping, labels):
        """Cross-entropy of the query stream at the targets; the memory gets no gradient, as in XLNet's
        pretraining.
        """
        mems = None
        if memory.shape[1]:
            with torch.no_grad():
                mems = model.transformer(memory, use_mems=True)[1]
        hidden = model.transformer(
            input_ids, mems=mems, perm_mask=perm_mask, target_mapping=target_mapping, use_mems=False
        )[0]
        return F.cross_entropy(model.lm_loss(hidden).flatten(0, 1).float(), labels.flatten())

    @staticmethod
    def finished(model, recipe):
        model.transformer.config.dropout = 0.1
        return model.transformer


class GPT2:
    corpus, objective, pads = "corpus_en", "next-token prediction", 0
    lines = False

    @staticmethod
    def train_tokenizer(texts, vocab_size, folder):
        """Byte-level BPE; ``<|endoftext|>`` stands between documents."""
        from tokenizers import ByteLevelBPETokenizer
        from transformers import GPT2TokenizerFast

        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            texts,
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=["<|endoftext|>"],
            show_progress=False,
        )
        GPT2TokenizerFast(tokenizer_object=bpe._tokenizer).save_pretrained(folder)

    @staticmethod
    def build(recipe, tokenizer):
        from transformers import GPT2Config, GPT2LMHeadModel

        end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer),
                n_embd=recipe.hidden_size,
                n_layer=recipe.num_layers,
                n_head=recipe.num_heads,
                n_positions=recipe.max_positions,
                **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
                attn_implementation="eager",
                bos_token_id=end if tokenizer.cls_token_id is None else tokenizer.cls_token_id,
                eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    @staticmethod
    def batch(body, tokenizer, recipe, generator):
        """(B, T) ids, which are their own labels."""
        return (body,)

    @staticmethod
    def loss(model, input_ids):
        """Mean cross-entropy of tokens 1 to T-1 given those before."""
        hidden = model.transformer(input_ids)[0][:, :-1]
        return F.cross_entropy(model.lm_head(hidden).flatten(0, 1).float(), input_ids[:, 1:].flatten())

    @staticmethod
    def finished(model, recipe):
        return model


class GPT2Chinese(GPT2):
    corpus, pads, lines = "zh_modern_prose", 1, True

    @staticmethod
    def train_tokenizer(texts, vocab_size, folder):
        """BERT's special tokens and the most frequent characters, one token each."""
        from transformers import BertTokenizerFast

        counts = Counter(character for text in texts for character in text if not character.isspace())
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        characters = sorted(counts, key=lambda character: (-counts[character], character))
        Path(folder).mkdir(parents=True, exist_ok=True)
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text(
            "\n".join(special + characters[: vocab_size - len(special)]) + "\n", encoding="utf-8"
        )
        BertTokenizerFast.from_pretrained(folder, do_lower_case=False).save_pretrained(folder)

    @staticmethod
    def batch(body, tokenizer, recipe, generator):
        """(B, T): ``[CLS]`` and T-1 characters from the beginning of a line."""
        return (F.pad(body, (1, 0), value=tokenizer.cls_token_id),)


OBJECTIVES = {"bert": Bert, "xlnet": XLNet, "gpt2": GPT2, "gpt2_zh": GPT2Chinese}
