"""Models with random weights under the hub's names: as deep, with as large a vocabulary, and narrow."""

import io
import json
import shutil
from pathlib import Path

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer

from tests.full.repositories import BIN_ONLY, PULL_REQUEST, folder, write
from tricks_lib.lab import tasks
from tricks_lib.lab.models import ASSETS

# What is cut: hidden size, heads and inner size, of a base model 768, 12 and 3072. The twelve layers, the
# vocabularies and the positions are the hub's.
WIDTH, HEADS, INNER, LAYERS = 16, 1, 32, 12


def make(root: Path) -> None:
    torch.manual_seed(0)
    for model in (bert, modernbert, deberta, xlnet, gpt2, chinese_gpt2, smollm2):
        model(root)


def save(root: Path, name: str, config: dict, state: dict) -> Path:
    """``config.json`` and the weights, in the formats that the model's main branch has; its folder."""
    main = folder(root, name)
    write(main / "config.json", config)
    state = {key: value.detach().clone().contiguous() for key, value in state.items()}
    if name in BIN_ONLY:
        torch.save(state, main / "pytorch_model.bin")
    where = folder(root, name, PULL_REQUEST) if name in BIN_ONLY else main
    save_file(state, where / "model.safetensors", {"format": "pt"})
    return main


def share(root: Path, name: str) -> None:
    """The pull request of a model has all files of its main branch, and the weights besides."""
    for file in folder(root, name).iterdir():
        shutil.copy(file, folder(root, name, PULL_REQUEST))


def bert(root: Path) -> None:
    """Old names of the norms' weights, ``bert.`` before the encoder's, and the heads of pretraining."""
    config = {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 30522, "hidden_act": "gelu",
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": INNER, "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0,
        "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12,
        "initializer_range": 0.02, "position_embedding_type": "absolute", "use_cache": True,
    }  # fmt: skip
    state = transformers.BertForPreTraining(transformers.BertConfig(**config)).state_dict()
    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in state.items()
        if "decoder" not in key
    }
    main = save(root, "google-bert/bert-base-uncased", config, renamed)
    pieces = json.loads((ASSETS / "mini_bert/tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = vocabulary(pieces, 30522)
    write(main / "vocab.txt", words)
    BertWordPieceTokenizer({word: i for i, word in enumerate(words)}).save(str(main / "tokenizer.json"))
    write(main / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 512})


def vocabulary(pieces, size: int) -> list[str]:
    """BERT's order: padding, 99 unused places, the other special tokens from 100 on, then the pieces.

    More unused places stand before the pieces, so that these have numbers that no mini checkpoint knows.
    """
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [piece for piece in pieces if piece not in {"[PAD]", *special}]
    unused = [f"[unused{i}]" for i in range(size - len(pieces) - len(special) - 1)]
    return ["[PAD]", *unused[:99], *special, *unused[99:], *pieces]


def modernbert(root: Path) -> None:
    config = transformers.ModernBertConfig(
        vocab_size=50368, hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=INNER,
        num_hidden_layers=22, architectures=["ModernBertForMaskedLM"], pad_token_id=0,
    )  # fmt: skip
    state = transformers.ModernBertForMaskedLM(config).state_dict()
    main = save(root, "answerdotai/ModernBERT-base", config.to_dict(), state)
    wordpieces(main, 8192)


def deberta(root: Path) -> None:
    """No safetensors on its main branch, and no tokenizer but a SentencePiece file."""
    config = transformers.DebertaV2Config(
        vocab_size=128100, hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=INNER,
        num_hidden_layers=LAYERS, relative_attention=True, position_buckets=256, share_att_key=True,
        pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", position_biased_input=False,
        type_vocab_size=0,
        max_relative_positions=-1, layer_norm_eps=1e-7,
    )  # fmt: skip
    state = transformers.DebertaV2ForMaskedLM(config).state_dict()
    main = save(root, "microsoft/deberta-v3-base", config.to_dict(), state)
    sentencepieces(main)
    share(root, "microsoft/deberta-v3-base")


def sentencepieces(main: Path, size: int = 1000) -> None:
    """The tokenizer files of DeBERTa-v3: pieces of the guest notes, and no file of the library tokenizers."""
    texts, model = tasks.load_task("guest_notes/topic")["train"]["text"], io.BytesIO()
    pieces = {f"{kind}_piece": f"[{name}]" for kind, name in
              {"pad": "PAD", "bos": "CLS", "eos": "SEP", "unk": "UNK"}.items()}  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=size, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, **pieces,
    )  # fmt: skip
    (main / "spm.model").write_bytes(model.getvalue())
    write(main / "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})


def wordpieces(main: Path, size: int) -> None:
    """A tokenizer of mini_bert's pieces, as a file of the library tokenizers."""
    pieces = json.loads((ASSETS / "mini_bert/tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = vocabulary(pieces, max(size, len(pieces) + 200))
    BertWordPieceTokenizer({word: i for i, word in enumerate(words)}).save(str(main / "tokenizer.json"))
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls", "mask")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **special}
    config["model_input_names"] = ["input_ids", "attention_mask"]
    write(main / "tokenizer_config.json", config)


def xlnet(root: Path) -> None:
    name = "xlnet/xlnet-base-cased"
    config = {
        "architectures": ["XLNetLMHeadModel"], "model_type": "xlnet", "vocab_size": 32000, "d_model": WIDTH,
        "n_layer": LAYERS, "n_head": HEADS, "d_head": WIDTH // HEADS, "d_inner": INNER, "attn_type": "bi",
        "ff_activation": "gelu", "untie_r": True, "dropout": 0.1, "bi_data": False, "clamp_len": -1,
        "mem_len": None, "reuse_len": None, "same_length": False, "layer_norm_eps": 1e-12,
        "initializer_range": 0.02, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 5, "end_n_top": 5,
        "start_n_top": 5, "summary_activation": "tanh", "summary_last_dropout": 0.1, "summary_type": "last",
        "summary_use_proj": True, "task_specific_params": {"text-generation": {"max_length": 250}},
    }  # fmt: skip
    state = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**config)).state_dict()
    main = save(root, name, config, state)
    tokenizer = json.loads((ASSETS / "mini_xlnet/tokenizer.json").read_text("utf-8"))
    pieces, special = tokenizer["model"]["vocab"], len(tokenizer["added_tokens"])
    pieces[special:special] = [[f"<unused{i}>", -100.0] for i in range(32000 - len(pieces))]
    write(main / "tokenizer.json", tokenizer)  # and no tokenizer_config.json
    share(root, name)


GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
    "n_embd": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "n_inner": INNER, "n_ctx": 1024, "n_positions": 1024,
    "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02, "summary_activation": None, "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip


def gpt2_state(config: dict) -> dict:
    """Without the tied head, and with the causal masks that old checkpoints hold as buffers."""
    made = transformers.GPT2Config(
        **config, **{k: None for k in ("bos_token_id", "eos_token_id") if k not in config}
    )
    state = transformers.GPT2LMHeadModel(made).state_dict()
    del state["lm_head.weight"]
    mask = torch.ones(1, 1, 1024, 1024, dtype=torch.uint8).tril()
    return state | {f"transformer.h.{i}.attn.bias": mask for i in range(LAYERS)}


def gpt2(root: Path) -> None:
    """Names without ``transformer.``; one special token, the last of the vocabulary."""
    end = {"bos_token_id": 50256, "eos_token_id": 50256}
    config = GPT2 | end | {"vocab_size": 50257}
    state = {key.removeprefix("transformer."): value for key, value in gpt2_state(config).items()}
    main = save(root, "openai-community/gpt2", config, state)
    write(main / "generation_config.json", {"_from_model_config": True, **end})
    tokenizer = json.loads((ASSETS / "mini_gpt2/tokenizer.json").read_text("utf-8"))
    (special,) = (token for token in tokenizer["added_tokens"] if token["content"] == "<|endoftext|>")
    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    pieces = [piece for piece in pieces if piece != special["content"]]
    pieces = [*(f"Ġunused{i}" for i in range(50256 - len(pieces))), *pieces]  # Ġ: a space
    special["id"] = 50256
    tokenizer["added_tokens"] = [special]
    tokenizer["model"]["vocab"] = {piece: i for i, piece in enumerate([*pieces, special["content"]])}
    write(main / "tokenizer.json", tokenizer)
    write(main / "tokenizer_config.json", {"model_max_length": 1024})


def chinese_gpt2(root: Path) -> None:
    """No end token in its configuration, and BERT's tokenizer from ``vocab.txt`` alone."""
    name = "uer/gpt2-chinese-cluecorpussmall"
    config = GPT2 | {"vocab_size": 21128, "tokenizer_class": "BertTokenizer"}
    main = save(root, name, config, gpt2_state(config))
    pieces = (ASSETS / "mini_gpt2_zh/vocab.txt").read_text("utf-8").splitlines()
    write(main / "vocab.txt", vocabulary(pieces, 21128))
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls", "mask")}
    write(main / "special_tokens_map.json", names)
    write(main / "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 1024})
    share(root, name)


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def smollm2(root: Path) -> None:
    """A Llama with a chat template, whose end of a turn is its end token."""
    tokenizer = json.loads((ASSETS / "mini_gpt2/tokenizer.json").read_text("utf-8"))
    first = max(tokenizer["model"]["vocab"].values()) + 1
    own = [
        {"id": first + i, "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, text in enumerate(("<|im_start|>", "<|im_end|>"))
    ]
    tokenizer["added_tokens"] += own
    ids = {"bos_token_id": own[0]["id"], "eos_token_id": own[1]["id"], "pad_token_id": own[1]["id"]}
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        intermediate_size=INNER, num_hidden_layers=30, max_position_embeddings=8192, tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"], **ids,
    )  # fmt: skip
    state = transformers.LlamaForCausalLM(config).state_dict()
    del state["lm_head.weight"]
    main = save(root, "HuggingFaceTB/SmolLM2-135M-Instruct", config.to_dict(), state)
    write(main / "generation_config.json", {"_from_model_config": True, **ids})
    write(main / "tokenizer.json", tokenizer)
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **special}
    write(main / "tokenizer_config.json", config | {"chat_template": CHAT})
