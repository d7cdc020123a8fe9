"""For the demo of FGM: training with an attack or with NEFTune's noise, the loss of attacked texts, and the
loss along a direction.
"""

import copy

import torch

from tricks_lib.lab import fit
from tricks_lib.mean_pooling import MeanPoolingClassifier


def adversarial(make):
    """``after_backward`` of :func:`fit.fit`: a second pass under the attack ``make(model)``, and the clean
    weights again.
    """
    attack = None

    def after_backward(model, batch, accelerator):
        nonlocal attack
        attack = attack or make(model)
        with attack.perturbed():
            accelerator.backward(model(**batch).loss)

    return after_backward


def noisy(alpha: float):
    """Forward hook of an embedding: NEFTune's uniform noise in training mode, at most alpha / sqrt(T H) in
    each entry (Jain et al., ICLR 2024, algorithm 1).
    """

    def hook(module, args, output):
        limit = alpha / (output.shape[-2] * output.shape[-1]) ** 0.5
        return output + torch.empty_like(output).uniform_(-limit, limit) if module.training else None

    return hook


def train(encoder, num_labels, rows, collate_fn, *, seed, attack=None, neftune=0.0, **options):
    """A classifier on a copy of ``encoder``, trained plainly, with ``attack(model)`` on in a second pass of
    each step, or with the noise of :func:`noisy`; options as :func:`fit.fit`.
    """
    torch.manual_seed(seed)
    model = MeanPoolingClassifier(copy.deepcopy(encoder), num_labels)
    after_backward = adversarial(attack) if attack else None
    noise = model.get_input_embeddings().register_forward_hook(noisy(neftune)) if neftune else None
    fit.fit(model, rows, collate_fn, seed=seed, after_backward=after_backward, **options)
    if noise:
        noise.remove()
    return model


def losses(model, rows, collate_fn, attack=None, batch_size=64):
    """Cross-entropy (N,) and correctness (N,) of all rows in evaluation mode; with ``attack(model)`` on, each
    batch attacked.
    """
    where = next(model.eval().parameters()).device
    attack, out = attack and attack(model), []
    for i in range(0, len(rows), batch_size):
        batch = {k: v.to(where) for k, v in collate_fn(rows[i : i + batch_size]).items()}
        if attack:
            model(**batch).loss.backward()
            attack.attack()
        with torch.no_grad():
            logits = model(**batch).logits.float()
        if attack:
            attack.restore()
            model.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        out.append(torch.stack([loss, (logits.argmax(1) == batch["labels"]).float()]).cpu())
    return torch.cat(out, dim=1).numpy()


@torch.no_grad()
def along(model, batch, table, direction, lengths):
    """Loss of a batch with ``table + t * direction`` in place of ``table``, for each t of ``lengths``; the
    table comes back.
    """
    clean, out = table.detach().clone(), []
    for t in lengths:
        table.copy_(clean + t * direction)
        out.append(model(**batch).loss.item())
    table.copy_(clean)
    return out
