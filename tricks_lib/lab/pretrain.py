"""Pretrain the mini checkpoints: ``python -m tricks_lib.lab.pretrain bert``.

The embedded checkpoints are small, but they are really pretrained, by this file, on public text. A run
is resumable (its state is written with an atomic rename every few minutes), prints progress and time
left, and leaves the weights (fp16 safetensors), the tokenizer, a loss curve and a model card.

BERT: masked language modelling (Devlin et al. 2019, section 3.1) without next-sentence prediction
(Liu et al. 2019, RoBERTa). A fifth of the tokens is selected, of which 80 % become ``[MASK]``, 10 % a
random token and 10 % stay; the vocabulary is scored at the selected positions only, which is most of
what makes a CPU run affordable. Hidden matrices are trained by Muon (Jordan et al. 2024), the rest by
AdamW; linear warm-up, then linear decay.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights of one checkpoint, except the text."""

    vocab_size: int = 8192
    hidden_size: int = 192
    num_layers: int = 4
    num_heads: int = 3
    max_positions: int = 512
    trained_tokens: int = 64  # longest sequence seen: the tokenizer's model_max_length; later positions are untrained
    mask_share: float = 0.2
    batch: int = 128  # sequences
    steps: int = 4_700
    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    warmup: int = 300
    weight_decay: float = 0.01
    seed: int = 0


RECIPES = {"bert": Recipe()}
CORPUS = {"bert": "corpus_en"}
SAVE_SECONDS = 120


def read_corpus(folder: Path) -> tuple[list[str], list[str], str]:
    """Training documents, held-out documents (1 % by hash of the text) and the file's sha256."""
    import pyarrow.parquet

    file = folder / "train.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"corpus: no file {file}; TRICKS_DATA or --data names the folder that holds {folder.name}/")
    texts = pyarrow.parquet.read_table(file, columns=["text"])["text"].to_pylist()
    held = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) % 100 == 0 for t in texts]
    train = [t for t, h in zip(texts, held) if not h]
    return train, [t for t, h in zip(texts, held) if h], hashlib.sha256(file.read_bytes()).hexdigest()


def train_wordpiece(texts: list[str], vocab_size: int):
    """A lower-casing WordPiece tokenizer as BERT's, trained on ``texts``."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, limit_alphabet=200, show_progress=False)
    return BertTokenizerFast(tokenizer_object=wordpiece._tokenizer)


def token_stream(tokenizer, texts: list[str]) -> torch.Tensor:
    """All documents as one stream of ids, ``[SEP]`` after each: (N,) int16."""
    ids = []
    for i in range(0, len(texts), 1000):
        for row in tokenizer(texts[i : i + 1000], add_special_tokens=False, verbose=False)["input_ids"]:
            ids.extend(row)
            ids.append(tokenizer.sep_token_id)
    return torch.tensor(ids, dtype=torch.int16)


def mask_tokens(input_ids, tokenizer, share, generator):
    """BERT's corruption with a fixed number of selected positions a row.

    Args:
        input_ids: (B, T) ids, first ``[CLS]``, last ``[SEP]``.
        tokenizer: gives the ids of ``[MASK]`` and the size of the vocabulary.
        share: share of the inner positions that is selected.
        generator: source of randomness.

    Returns:
        corrupted ids (B, T), selected positions (B, K), original ids there (B, K).
    """
    B, T = input_ids.shape
    K = max(1, round(share * (T - 2)))
    positions = torch.rand(B, T - 2, generator=generator).topk(K, dim=1).indices + 1  # (B, K)
    labels = input_ids.gather(1, positions)  # (B, K)
    draw = torch.rand(B, K, generator=generator)
    noise = torch.randint(5, tokenizer.vocab_size, (B, K), generator=generator)
    replacement = torch.where(draw < 0.8, tokenizer.mask_token_id, torch.where(draw < 0.9, noise, labels))
    return input_ids.scatter(1, positions, replacement), positions, labels


def batch_of(stream, tokenizer, recipe, step):
    """Sequences ``[CLS] ... [SEP]`` cut from the stream at random places, masked. A function of seed and step alone, so that
    a resumed run reads what it would have read."""
    T, B = recipe.trained_tokens, recipe.batch
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    starts = torch.randint(0, len(stream) - T, (B,), generator=generator)
    body = stream[starts[:, None] + torch.arange(T - 2)].long()  # (B, T-2)
    return mask_tokens(with_ends(body, tokenizer), tokenizer, recipe.mask_share, generator)


def with_ends(body, tokenizer):
    """(B, T-2) -> (B, T): ``[CLS]`` before, ``[SEP]`` after."""
    return F.pad(F.pad(body, (1, 0), value=tokenizer.cls_token_id), (0, 1), value=tokenizer.sep_token_id)


def mlm_loss(model, input_ids, positions, labels):
    """Cross-entropy at the selected positions: hidden (B, T, H) -> picked (B*K, H) -> logits (B*K, V)."""
    hidden = model.bert(input_ids)[0]
    picked = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)
    return F.cross_entropy(model.cls(picked).float(), labels.flatten())


@torch.no_grad()
def held_out_loss(model, stream, tokenizer, recipe, device, batches=40):
    """Mean MLM loss on the first ``batches`` x 32 held-out sequences, same masks at every call."""
    generator = torch.Generator().manual_seed(1)
    tokens = recipe.trained_tokens
    n = min(batches * 32, (len(stream) - 1) // (tokens - 2))
    body = stream[: n * (tokens - 2)].view(n, tokens - 2).long()
    model.eval()
    total = 0.0
    for rows in with_ends(body, tokenizer).split(32):
        batch = [x.to(device) for x in mask_tokens(rows, tokenizer, recipe.mask_share, generator)]
        with torch.autocast(device.type, torch.bfloat16):
            total += mlm_loss(model, *batch).item() * len(rows)
    model.train()
    return total / n


def optimizers(model, recipe):
    """Muon for the encoder's weight matrices, AdamW for embeddings, head, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "encoder.layer" in n]
    taken = {id(p) for p in matrices}
    decayed = [p for p in model.parameters() if id(p) not in taken and p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=recipe.adamw_lr, betas=(0.9, 0.98))
    muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95, adjust_lr_fn="original")
    return [muon, adamw]


def rate(step, recipe):
    """Linear warm-up to 1, then linear decay to 0 at the last step."""
    return min((step + 1) / recipe.warmup, (recipe.steps - step) / max(1, recipe.steps - recipe.warmup))


def build_model(recipe, tokenizer):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(recipe.seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=recipe.hidden_size, num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads, intermediate_size=4 * recipe.hidden_size,
            max_position_embeddings=recipe.max_positions, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            attn_implementation="eager",  # on a CPU its backward is faster than the fused kernel's
        )
    )  # fmt: skip


def write_atomically(path: Path, save) -> None:
    temporary = path.with_suffix(".tmp")
    save(temporary)
    os.replace(temporary, path)


def pretrain(name, data, out, recipe, device, compiled=True):
    """Run one recipe to its last step, going on with what ``out`` holds; writes ``out/mini_<name>``.

    Raises:
        FileNotFoundError: the corpus is not there.
        ValueError: ``out`` holds the state of another recipe.
    """
    from transformers import BertTokenizerFast

    texts, held_texts, sha256 = read_corpus(data / CORPUS[name])
    out.mkdir(parents=True, exist_ok=True)

    if not (out / "tokenizer.json").exists():
        train_wordpiece(texts, recipe.vocab_size).save_pretrained(out)
    tokenizer = BertTokenizerFast.from_pretrained(out)
    if not (out / "stream.pt").exists():
        streams = {"train": token_stream(tokenizer, texts), "held": token_stream(tokenizer, held_texts)}
        write_atomically(out / "stream.pt", lambda p: torch.save(streams, p))
    streams = torch.load(out / "stream.pt")
    model = build_model(recipe, tokenizer).to(device)
    optims = optimizers(model, recipe)
    base_lrs = [[g["lr"] for g in o.param_groups] for o in optims]
    state = {"step": 0, "seconds": 0.0, "tokens": 0, "curve": [], "recipe": json.loads(json.dumps(asdict(recipe)))}
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", map_location=device)
        if saved["state"]["recipe"] != state["recipe"]:
            raise ValueError(f"--out {out} holds a run of another recipe: {saved['state']['recipe']}; name another folder")
        state = saved["state"]
        model.load_state_dict(saved["model"])
        for optim, s in zip(optims, saved["optims"]):
            optim.load_state_dict(s)
        print(f"resuming at step {state['step']}", flush=True)
    loss_of = torch.compile(mlm_loss) if compiled else mlm_loss  # 1.4 times the tokens a second on two cores

    def save():
        everything = {"model": model.state_dict(), "optims": [o.state_dict() for o in optims], "state": state}
        write_atomically(out / "state.pt", lambda p: torch.save(everything, p))

    model.train()
    start, before = time.perf_counter(), state["seconds"]
    last_save, running = start, None
    for step in range(state["step"], recipe.steps):
        batch = [x.to(device, non_blocking=True) for x in batch_of(streams["train"], tokenizer, recipe, step)]
        for optim, lrs in zip(optims, base_lrs):
            for group, lr in zip(optim.param_groups, lrs):
                group["lr"] = lr * rate(step, recipe)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(model, *batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        state["step"], state["tokens"] = step + 1, state["tokens"] + batch[0].numel()
        state["seconds"] = before + time.perf_counter() - start
        if step % 50 == 0 or running is None:
            running = loss.item() if running is None else 0.8 * running + 0.2 * loss.item()
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            left = state["seconds"] / state["step"] * (recipe.steps - state["step"])
            line = {"step": step + 1, "tokens": state["tokens"], "minutes": round(state["seconds"] / 60, 2), "loss": round(running, 3)}
            if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
                line["held_out"] = round(held_out_loss(model, streams["held"], tokenizer, recipe, device), 4)
            state["curve"].append(line)
            print(f"{name} {line} {left / 60:.0f} min left", flush=True)
        if time.perf_counter() - last_save >= SAVE_SECONDS:
            save()
            last_save = time.perf_counter()
    save()
    export(name, model, tokenizer, out, recipe, state, sha256, len(streams["train"]), device)


def export(name, model, tokenizer, out, recipe, state, sha256, corpus_tokens, device):
    """Write ``out/mini_<name>/``: fp16 encoder, tokenizer, ``card.json`` (the model card's fields) and ``README.md``."""
    from transformers import BertModel

    folder = out / f"mini_{name}"
    torch.manual_seed(recipe.seed)
    with_pooler = BertModel(model.config)  # AutoModel expects the pooler; it is at its random start, as the card says
    with_pooler.load_state_dict(model.bert.state_dict(), strict=False)
    config = with_pooler.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1  # fine-tuning's default, pretraining used 0
    with_pooler.half().save_pretrained(folder)
    tokenizer.model_max_length = recipe.trained_tokens
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {k: v for k, v in settings.items() if k not in ("is_local", "local_files_only")}  # of this machine, not of the tokenizer
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "model.safetensors").chmod(0o644)
    parameters = sum(p.numel() for p in with_pooler.parameters())
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    held = [line["held_out"] for line in state["curve"] if "held_out" in line]
    card = {
        "name": f"mini_{name}", "parameters": parameters, "objective": "masked language modelling",
        "corpus": CORPUS[name], "corpus_sha256": sha256, "corpus_tokens": corpus_tokens,
        "tokens_seen": state["tokens"], "steps": state["step"], "minutes": round(state["seconds"] / 60, 1),
        "held_out_loss": held[-1], "held_out_perplexity": round(math.exp(held[-1]), 2), "hardware": hardware,
        "machine": platform.machine(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
        "pooler": "random: masked language modelling does not train it", "note": state.get("note", ""), "recipe": state["recipe"], "curve": state["curve"],
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    (folder / "README.md").write_text(readme(card))
    print(f"wrote {folder}", flush=True)


def readme(card) -> str:
    """The model card for people; its numbers are those of ``card.json``."""
    recipe = card["recipe"]
    shape = f"{recipe['num_layers']} layers of {recipe['hidden_size']}, {recipe['num_heads']} heads, vocabulary {recipe['vocab_size']:,}, {recipe['max_positions']} positions"
    curve = "\n".join(f"| {x['step']:,} | {x['tokens'] / 1e6:.1f} M | {x['minutes']:.0f} | {x['loss']:.2f} | {x['held_out']:.2f} |" for x in card["curve"] if "held_out" in x)
    return f"""# {card["name"]}

A small encoder for demonstrations and tests: {shape}; {card["parameters"] / 1e6:.1f} M parameters in fp16. Not for production.

- **Objective:** {card["objective"]}, {recipe["mask_share"]:.0%} of the tokens selected. The pooler is {card["pooler"]}.
- **Text:** `{card["corpus"]}` (sha256 `{card["corpus_sha256"][:16]}...`): film reviews, newsgroup posts, encyclopedia paragraphs, Shakespeare; {card["corpus_tokens"] / 1e6:.1f} M tokens, 1 % of the documents held out by hash. No text of it is in this repository. The model has the tastes, errors and prejudices of that text.
- **Training:** {card["steps"]:,} steps, {card["tokens_seen"] / 1e6:.1f} M tokens, {card["minutes"]:.0f} minutes on {card["hardware"]}, {card["date"]}; seed {recipe["seed"]}. The batch of a step is a function of the seed and the step alone. {card["note"][:1].upper() + card["note"][1:]}
- **Held-out loss:** {card["held_out_loss"]:.2f} (perplexity {card["held_out_perplexity"]:.1f}) on sequences of {recipe["trained_tokens"]} tokens, the longest it was trained on: the tokenizer cuts there, and what stands in the position table beyond is untrained.
- **Repeat:** `python -m tricks_lib.lab.pretrain {card["name"].removeprefix("mini_")} --data FOLDER --out FOLDER`

| step | tokens | minutes | training loss | held-out loss |
|---|---|---|---|---|
{curve}
"""


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tricks_lib.lab.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, default=os.environ.get("TRICKS_DATA"), help="folder that holds the corpus (default: TRICKS_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder for state and result; an interrupted run resumes from it")
    parser.add_argument("--steps", type=int, help="number of optimizer steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data: name the folder that holds the corpus, or set TRICKS_DATA")
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps: {args.steps} given, a positive number is accepted")
    recipe = replace(RECIPES[args.model], **({"steps": args.steps} if args.steps else {}))
    try:
        pretrain(args.model, args.data, args.out, recipe, torch.device(args.device))
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
