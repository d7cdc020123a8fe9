"""Pretrain the mini checkpoints: ``python -m tricks_lib.lab.pretrain {bert,xlnet,gpt2,gpt2_zh}``.

The embedded checkpoints are small, but they are really pretrained, by this file, on public text; what each is
trained to do stands in ``objectives.py``. A run is resumable (its state is written with an atomic rename
every few minutes), prints progress and time left, and leaves the weights (fp16 safetensors), the tokenizer, a
loss curve and a model card. bf16 autocast; AdamW (for the GPT-2s Muon, Jordan et al. 2024, for the matrices
of the layers), linear warm-up, then linear decay.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tricks_lib.lab.objectives import OBJECTIVES, Recipe

RECIPES = {
    "bert": Recipe(),
    "xlnet": Recipe(long_tokens=256, long_every=4, batch_tokens=2048, lr=1.5e-3, steps=9_000),
    "gpt2": Recipe(tokens=128, batch_tokens=2048, muon_lr=0.02, weight_decay=0.01, steps=7_500),
    "gpt2_zh": Recipe(
        tokens=128, batch_tokens=2048, muon_lr=0.02, weight_decay=0.01, steps=7_500, vocab_size=6000
    ),
}
SAVE_SECONDS = 120
SAMPLES = 10  # texts in the card, of seeds 0, 1, ...
SAMPLING = {"temperature": 0.7, "top_p": 0.9}
PROMPTS = {"gpt2": "", "gpt2_zh": "最美不过下雨天"}


def read_corpus(folder: Path, lines: bool) -> tuple[list[str], list[str], str]:
    """Training documents, held-out documents (1 % by hash of the text) and the file's sha256.

    Args:
        folder: holds ``train.parquet`` with a column ``text``.
        lines: a row is a line, and a hundred of them are one document.
    """
    import pyarrow.parquet

    file = folder / "train.parquet"
    if not file.is_file():
        raise FileNotFoundError(
            f"corpus: no file {file}; TRICKS_DATA or --data names the folder that holds {folder.name}/"
        )
    texts = pyarrow.parquet.read_table(file, columns=["text"])["text"].to_pylist()
    if lines:
        texts = ["\n".join(texts[i : i + 100]) for i in range(0, len(texts), 100)]
    held = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) % 100 == 0 for t in texts]
    train = [t for t, h in zip(texts, held) if not h]
    return train, [t for t, h in zip(texts, held) if h], hashlib.sha256(file.read_bytes()).hexdigest()


def end_of_document(tokenizer) -> int:
    return tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id


def token_stream(tokenizer, texts: list[str], lines: bool) -> dict[str, torch.Tensor]:
    """All documents as one stream: ``ids`` (N,) int16 with an end mark after each, ``starts``: where a row
    may begin.
    """
    ids, starts = [], []
    for i in range(0, len(texts), 1000):
        parts = [text.split("\n") if lines else [text] for text in texts[i : i + 1000]]
        rows = iter(
            tokenizer([line for part in parts for line in part], add_special_tokens=False, verbose=False)[
                "input_ids"
            ]
        )
        for part in parts:
            for _ in part:
                starts.append(len(ids))
                ids.extend(next(rows))
            ids.append(end_of_document(tokenizer))
    return {
        "ids": torch.tensor(ids, dtype=torch.int16),
        "starts": torch.tensor(starts if lines else [], dtype=torch.int32),
    }


def batch_of(stream, tokenizer, objective, recipe, step):
    """Rows cut from the stream at random places, and what is to be predicted. A function of seed and step
    alone, so that a resumed run reads what it would have read."""
    T = recipe.long_tokens if (step + 1) % recipe.long_every == 0 else recipe.tokens
    ids, starts = stream["ids"], stream["starts"]
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    B = recipe.batch_tokens // T
    if len(starts):
        begin = starts[torch.randint(len(starts), (B,), generator=generator)].long().clamp(max=len(ids) - T)
    else:
        begin = torch.randint(0, len(ids) - T, (B,), generator=generator)
    body = ids[begin[:, None] + torch.arange(T - objective.pads)].long()  # (B, T - pads)
    return objective.batch(body, tokenizer, recipe, generator)


@torch.no_grad()
def held_out_loss(model, stream, tokenizer, objective, recipe, device, tokens, rows=1280):
    """Mean loss of the first ``rows`` held-out rows of ``tokens`` tokens, with the same choices at every
    call.
    """
    generator = torch.Generator().manual_seed(1)
    width = tokens - objective.pads
    n = min(rows, len(stream["ids"]) // width)
    model.eval()
    total = 0.0
    for body in stream["ids"][: n * width].view(n, width).long().split(32):
        batch = [x.to(device) for x in objective.batch(body, tokenizer, recipe, generator)]
        with torch.autocast(device.type, torch.bfloat16):
            total += objective.loss(model, *batch).item() * len(body)
    model.train()
    return total / n


def optimizers(model, recipe):
    """AdamW, without weight decay for vectors; where ``muon_lr`` is given, Muon for the weight matrices of
    the layers.
    """
    layers = (
        [p for n, p in model.named_parameters() if p.ndim == 2 and (".layer." in n or ".h." in n)]
        if recipe.muon_lr
        else []
    )
    taken = {id(p) for p in layers}
    matrices = [p for p in model.parameters() if id(p) not in taken and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optims = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))]
    if layers:
        if not hasattr(torch.optim, "Muon"):
            raise ImportError(
                f"this recipe trains with torch.optim.Muon, which torch has from 2.9 on; this is "
                f"{torch.__version__}"
            )
        optims.append(
            torch.optim.Muon(
                layers,
                lr=recipe.muon_lr,
                weight_decay=recipe.weight_decay,
                momentum=0.95,
                adjust_lr_fn="original",
            )
        )
    return optims


def rate(step, recipe):
    """Linear warm-up to 1, then linear decay to 0 at the last step."""
    return min((step + 1) / recipe.warmup, (recipe.steps - step) / max(1, recipe.steps - recipe.warmup))


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
    from transformers import AutoTokenizer

    objective = OBJECTIVES[name]
    texts, held_texts, sha256 = read_corpus(data / objective.corpus, objective.lines)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():
        objective.train_tokenizer(texts, recipe.vocab_size, out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    if not (out / "stream.pt").exists():
        streams = {
            "train": token_stream(tokenizer, texts, objective.lines),
            "held": token_stream(tokenizer, held_texts, objective.lines),
        }
        write_atomically(out / "stream.pt", lambda p: torch.save(streams, p))
    streams = torch.load(out / "stream.pt")
    torch.manual_seed(recipe.seed)
    model = objective.build(recipe, tokenizer).to(device)
    optims = optimizers(model, recipe)
    base_lrs = [[g["lr"] for g in o.param_groups] for o in optims]
    hardware = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} thread(s)"
    )
    state = {
        "step": 0,
        "seconds": 0.0,
        "tokens": 0,
        "curve": [],
        "hardware": hardware,
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", map_location=device)
        if saved["state"]["recipe"] != state["recipe"]:
            raise ValueError(
                f"--out {out} holds a run of another recipe: {saved['state']['recipe']}; name another folder"
            )
        state = saved["state"]
        model.load_state_dict(saved["model"])
        for optim, s in zip(optims, saved["optims"]):
            optim.load_state_dict(s)
        print(f"resuming at step {state['step']}", flush=True)
    loss_of = (
        torch.compile(objective.loss, dynamic=False) if compiled else objective.loss
    )  # 1.4 times the tokens a second on a CPU

    def save():
        everything = {"model": model.state_dict(), "optims": [o.state_dict() for o in optims], "state": state}
        write_atomically(out / "state.pt", lambda p: torch.save(everything, p))

    model.train()
    start, before = time.perf_counter(), state["seconds"]
    last_save, running = start, None
    for step in range(state["step"], recipe.steps):
        batch = [
            x.to(device, non_blocking=True)
            for x in batch_of(streams["train"], tokenizer, objective, recipe, step)
        ]
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
        state["step"], state["tokens"] = step + 1, state["tokens"] + recipe.batch_tokens
        state["seconds"] = before + time.perf_counter() - start
        if step % 50 == 0 or running is None:
            running = loss.item() if running is None else 0.8 * running + 0.2 * loss.item()
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            left = state["seconds"] / state["step"] * (recipe.steps - state["step"])
            line = {
                "step": step + 1,
                "tokens": state["tokens"],
                "minutes": round(state["seconds"] / 60, 2),
                "loss": round(running, 3),
            }
            if (step + 1) % max(1, recipe.steps // 10) == 0 or step + 1 == recipe.steps:
                line["held_out"] = round(
                    held_out_loss(
                        model, streams["held"], tokenizer, objective, recipe, device, recipe.tokens
                    ),
                    4,
                )
            state["curve"].append(line)
            print(f"{name} {line} {left / 60:.0f} min left", flush=True)
        if time.perf_counter() - last_save >= SAVE_SECONDS:
            save()
            last_save = time.perf_counter()
    save()
    export(name, model, tokenizer, out, recipe, state, sha256, streams, device)


def export(name, model, tokenizer, out, recipe, state, sha256, streams, device):
    """Write ``out/mini_<name>/``: fp16 weights, tokenizer, ``card.json`` (the model card's fields) and
    ``README.md``.
    """
    objective, folder = OBJECTIVES[name], out / f"mini_{name}"
    held = [line["held_out"] for line in state["curve"] if "held_out" in line][-1]
    long = held_out_loss(
        model, streams["held"], tokenizer, objective, recipe, device, recipe.long_tokens, rows=200
    )
    finished = objective.finished(model, recipe)
    parameters = sum(p.numel() for p in finished.parameters())
    finished.half().save_pretrained(folder)
    if (limit := finished.config.max_position_embeddings) > 0:  # XLNet has none
        tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    if (out / "vocab.txt").exists():  # for BertTokenizer in transformers 4
        (folder / "vocab.txt").write_bytes((out / "vocab.txt").read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {
        k: v for k, v in settings.items() if k not in ("is_local", "local_files_only")
    }  # of this machine, not of the tokenizer
    if isinstance(settings.get("extra_special_tokens"), list):  # by the name that transformers 4 reads too
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "model.safetensors").chmod(0o644)
    card = {
        "name": f"mini_{name}",
        "parameters": parameters,
        "objective": objective.objective,
        "corpus": objective.corpus,
        "corpus_sha256": sha256,
        "corpus_tokens": len(streams["train"]["ids"]),
        "tokens_seen": state["tokens"],
        "steps": state["step"],
        "minutes": round(state["seconds"] / 60, 1),
        "held_out_loss": held,
        "held_out_perplexity": round(math.exp(held), 2),
        "held_out_loss_long": round(long, 4),
        "hardware": state["hardware"],
        "machine": platform.machine(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "recipe": state["recipe"],
        "curve": state["curve"],
    }
    if name in PROMPTS:
        finished.float()
        card["trigram"] = against_trigram(finished, streams, recipe, device)
        card["prompt"], card["samples"] = PROMPTS[name], samples(finished, tokenizer, PROMPTS[name])
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(card), encoding="utf-8")
    print(f"wrote {folder}", flush=True)


def trigram_log_probs(
    train: np.ndarray, test: np.ndarray, vocab_size: int, discount: float = 0.75
) -> np.ndarray:
    """log p(w_t | w_{t-2}, w_{t-1}), t >= 2, of a trigram that backs off to the unigram, by absolute
    discounting.

    p = max(c(u,v,w) - d, 0) / c(u,v) + d n(u,v) / c(u,v) p(w), n the number of different followers; p = p(w)
    after a pair that was never seen; p(w) with one added to each count (Chen and Goodman 1999, equations 12
    to 14, without the bigram level).
    """
    train, test = train.astype(np.int64), test.astype(np.int64)
    unigram = (np.bincount(train, minlength=vocab_size) + 1) / (len(train) + vocab_size)
    pair = train[:-2] * vocab_size + train[1:-1]
    triples, counts = np.unique(pair * vocab_size + train[2:], return_counts=True)
    pairs, first = np.unique(triples // vocab_size, return_index=True)
    totals, kinds = np.add.reduceat(counts, first), np.diff(np.append(first, len(triples)))

    def look_up(keys, values, wanted):
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0)

    wanted = test[:-2] * vocab_size + test[1:-1]
    total, kind = look_up(pairs, totals, wanted), look_up(pairs, kinds, wanted)
    count = look_up(triples, counts, wanted * vocab_size + test[2:])
    seen = np.maximum(count - discount, 0) / np.maximum(total, 1)
    back_off = np.where(total > 0, discount * kind / np.maximum(total, 1), 1.0)
    return np.log(seen + back_off * unigram[test[2:]])


@torch.no_grad()
def against_trigram(model, streams, recipe, device) -> dict:
    """Perplexity of the model and of the trigram on the same held-out tokens: rows of ``long_tokens``, but
    for the first two of each.
    """
    T = recipe.long_tokens
    rows = streams["held"]["ids"][: len(streams["held"]["ids"]) // T * T].view(-1, T)
    losses = []
    for ids in rows.long().to(device).split(8):
        log_p = model.eval()(ids).logits[:, 1:-1].float().log_softmax(-1)
        losses.append(-log_p.gather(-1, ids[:, 2:, None]).squeeze(-1).double().mean(dim=1).cpu())
    train = streams["train"]["ids"].numpy()
    trigram = -trigram_log_probs(train, rows.flatten().numpy(), recipe.vocab_size)
    at = np.arange(rows.numel() - 2) % T < T - 2  # the triples that lie in one row
    ours, theirs = math.exp(torch.cat(losses).mean()), math.exp(trigram[at].mean())
    return {
        "tokens": int(at.sum()),
        "perplexity": round(ours, 2),
        "trigram_perplexity": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
    }


def samples(model, tokenizer, prompt: str, seeds: int = SAMPLES) -> list[str]:
    """Continuations of ``prompt`` (of the mark between documents, where it is empty), one a seed."""
    from tricks_lib.decoding import sample

    ids = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
    ids += tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else [tokenizer.eos_token_id]
    texts = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        out = sample(
            model.cpu(),
            torch.tensor([ids]),
            max_new_tokens=min(60, model.config.n_positions - len(ids)),
            **SAMPLING,
            eos_token_id=end_of_document(tokenizer),
            generator=generator,
        )
        text = tokenizer.decode(out[0], skip_special_tokens=True)
        texts.append((text.replace(" ", "") if tokenizer.cls_token_id is not None else text).strip())
    return texts


def readme(card) -> str:
    """The model card for people; its numbers are those of ``card.json``."""
    recipe, text = card["recipe"], CORPORA[card["corpus"]]
    shape = f"{recipe['num_layers']} layers of {recipe['hidden_size']}, {recipe['num_heads']} heads, vocabulary {recipe['vocab_size']:,}, {recipe['max_positions']} positions"
    curve = "\n".join(
        f"| {x['step']:,} | {x['tokens'] / 1e6:.1f} M | {x['minutes']:.0f} | {x['loss']:.2f} | "
        f"{x['held_out']:.2f} |"
        for x in card["curve"]
        if "held_out" in x
    )
    parts = [
        f"# {card['name']}",
        f"A small model for demonstrations and tests: {shape}; {card['parameters'] / 1e6:.1f} M parameters "
        f"in fp16. Not for production.",
        f"- **Objective:** {card['objective']}."
        + (
            " The pooler is random: masked language modelling does not train it."
            if card["name"] == "mini_bert"
            else ""
        ),
        f"- **Text:** `{card['corpus']}` (sha256 `{card['corpus_sha256'][:16]}...`): {text}; "
        f"{card['corpus_tokens'] / 1e6:.1f} M tokens, 1 % of the documents held out by hash. No text of it "
        f"is in this repository. The model has the tastes, errors and prejudices of that text.",
        f"- **Training:** {card['steps']:,} steps of {recipe['batch_tokens']:,} tokens, "
        f"{card['tokens_seen'] / 1e6:.1f} M tokens, {card['minutes']:.0f} minutes on {card['hardware']}, "
        f"{card['date']}; seed {recipe['seed']}. Rows of {recipe['tokens']} tokens, every "
        f"{recipe['long_every']}th batch of {recipe['long_tokens']}. The batch of a step is a function of "
        f"the seed and the step alone.",
        f"- **Held-out loss:** {card['held_out_loss']:.2f} (perplexity {card['held_out_perplexity']:.1f}) "
        f"in rows of {recipe['tokens']} tokens, {card['held_out_loss_long']:.2f} in rows of "
        f"{recipe['long_tokens']}.",
    ]
    if "trigram" in card:
        t = card["trigram"]
        parts += [
            f"- **Against counting:** perplexity {t['perplexity']:.1f} on {t['tokens']:,} held-out tokens; "
            f"a trigram that backs off to the unigram has {t['trigram_perplexity']:.1f} on the same "
            f"({t['ratio']:.0%})."
        ]
    parts += [
        f"- **Repeat:** `python -m tricks_lib.lab.pretrain {card['name'].removeprefix('mini_')} --data "
        f"FOLDER --out FOLDER`"
    ]
    parts = [
        parts[0],
        "",
        parts[1],
        "",
        *parts[2:],
        "",
        "| step | tokens | minutes | training loss | held-out loss |",
        "|---|---|---|---|---|",
        curve,
    ]
    if "samples" in card:
        prompt = f"after `{card['prompt']}`" if card["prompt"] else "from the mark between documents"
        parts += [
            "",
            f"Ten samples {prompt}, top-p {SAMPLING['top_p']} at temperature {SAMPLING['temperature']}, 60 "
            f"tokens, seeds 0 to 9, none left out:",
            "",
        ]
        parts += [f"{seed}. {' '.join(text.split())}" for seed, text in enumerate(card["samples"])]
    return "\n".join(parts) + "\n"


CORPORA = {
    "corpus_en": "film reviews, newsgroup posts, encyclopedia paragraphs, Shakespeare",
    "zh_modern_prose": "modern Chinese renderings of 97 classical books",
}


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m tricks_lib.lab.pretrain", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TRICKS_DATA"),
        help="folder that holds the corpus (default: TRICKS_DATA)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for state and result; an interrupted run resumes from it",
    )
    parser.add_argument("--steps", type=int, help="number of optimizer steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data: name the folder that holds the corpus, or set TRICKS_DATA")
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps: {args.steps} given, a positive number is accepted")
    recipe = replace(RECIPES[args.model], **({"steps": args.steps} if args.steps else {}))
    try:
        pretrain(args.model, Path(args.data), args.out, recipe, torch.device(args.device))
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
