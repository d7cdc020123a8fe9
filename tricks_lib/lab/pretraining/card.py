"""What is shipped of a run: fp16 safetensors, the tokenizer, a model card with loss curve and samples."""

import json
import math
import platform
import time

import numpy as np
import torch

from tricks_lib.lab.pretraining.corpus import end_of_document
from tricks_lib.lab.pretraining.objectives import OBJECTIVES

SAMPLES = 10  # texts in the card, of seeds 0, 1, ...
SAMPLING = {"temperature": 0.7, "top_p": 0.9}
PROMPTS = {"gpt2": "", "gpt2_zh": "最美不过下雨天"}


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


CORPORA = {
    "corpus_en": "film reviews, newsgroup posts, encyclopedia paragraphs, Shakespeare",
    "zh_modern_prose": "modern Chinese renderings of 97 classical books",
}


def readme(card) -> str:
    """The model card for people; its numbers are those of ``card.json``."""
    recipe, text = card["recipe"], CORPORA[card["corpus"]]
    shape = (
        f"{recipe['num_layers']} layers of {recipe['hidden_size']}, {recipe['num_heads']} heads, "
        f"vocabulary {recipe['vocab_size']:,}, {recipe['max_positions']} positions"
    )
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
        f"- **Repeat:** `python -m tricks_lib.lab.pretraining {card['name'].removeprefix('mini_')} --data "
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
