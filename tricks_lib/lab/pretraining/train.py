"""One run of a recipe, to its last step: resumable, with progress and time left.

bf16 autocast; AdamW (for the GPT-2s Muon, Jordan et al. 2024, for the matrices of the layers), linear
warm-up, then linear decay. The state is written with an atomic rename every few minutes.
"""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from tricks_lib.lab.pretraining.card import export, held_out_loss
from tricks_lib.lab.pretraining.corpus import batch_of, read_corpus, token_stream
from tricks_lib.lab.pretraining.objectives import OBJECTIVES

SAVE_SECONDS = 120


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
