"""Beam search and diverse beam search: the K best prefixes are kept at each step instead of one.

The search looks for the sequence y of n new tokens with the largest

    score(y) = sum_i log p(y_i | x, y_<i) / n^length_penalty                                   (1)

A beam that meets an end token leaves the search as a finished sequence; the search of a prompt closes when it
has K of them and (``early_stopping=True``) at once, or else when no living beam can beat the worst of them.
Diverse beam search runs G groups of K/G beams, one after the other in each step. A group's log-probabilities
are lowered for what the groups before it have just chosen:

    log p(v) - diversity_penalty * (how many beams of earlier groups chose v in this step)      (2)

Sources: equation (1) and closing as in transformers 5 (`_beam_search`); (2) Vijayakumar et al., "Diverse Beam
Search", AAAI 2018, algorithm 1 with Hamming diversity, closing as in transformers 4.55 (`BeamSearchScorer`).
Shapes: B prompts, K beams, G groups of k = K/G, N returned, T tokens of the prompt, V vocabulary.
"""

import math
from dataclasses import dataclass, field
from typing import Unpack

import torch
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib.decoding.run import Options, Run

__all__ = ["beam_search", "diverse_beam_search"]


@torch.no_grad()
def beam_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    num_return_sequences: int = 1,
    **options: Unpack[Options],
) -> Tensor:
    """The best sequences by equation (1) that K beams find; token for token what
    ``model.generate(num_beams=K)`` returns.

    Args:
        model, input_ids, max_new_tokens, options: as :func:`~tricks_lib.decoding.greedy_search`, less those
            not for beams.
        num_beams: K, at least 1.
        length_penalty: from -10 to 10; 0: the sum of log-probabilities; 1: their mean; larger values favour
            longer sequences.
        early_stopping: True: close with K finished sequences; False: when the best living beam, at its
            present length, is no better than the worst of them; "never": when it could not become better at
            any length.
        num_return_sequences: N, at most K.

    Returns:
        (B * N, T + new), for each prompt its N best sequences, the best first, padded on the right.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.greedy_search`; a parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> beam_search(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4, num_beams=3,
        num_return_sequences=2).shape torch.Size([2, 7])
    """
    run = Run(model, input_ids, max_new_tokens, **options)
    return _search(run, num_beams, 1, 0.0, length_penalty, early_stopping, num_return_sequences)


@torch.no_grad()
def diverse_beam_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    num_beams: int = 4,
    num_beam_groups: int = 2,
    diversity_penalty: float = 1.0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    num_return_sequences: int = 1,
    **options: Unpack[Options],
) -> Tensor:
    """Beam search in groups that avoid each other's tokens, equation (2), as ``generate`` did until
    transformers 4.55.

    Args:
        num_beams, options: and all before them, as :func:`beam_search`.
        num_beam_groups: G, at least 1; it divides ``num_beams``.
        diversity_penalty: from 0 to 1e6, in nats; 0 makes all groups alike.

    Returns:
        (B * N, T + new), for each prompt the N best sequences of all groups, scored with the penalties.

    Raises:
        TypeError, ValueError: as :func:`beam_search`; G does not divide K.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> diverse_beam_search(model, torch.tensor([[1, 2, 3]]), 4, num_beams=4, num_beam_groups=2,
        num_return_sequences=4).shape torch.Size([4, 7])
    """
    number("num_beam_groups", num_beam_groups, 1, accepted="a positive integer", integer=True)
    number("diversity_penalty", diversity_penalty, 0.0, 1e6)
    run = Run(model, input_ids, max_new_tokens, **options)
    return _search(
        run,
        num_beams,
        num_beam_groups,
        diversity_penalty,
        length_penalty,
        early_stopping,
        num_return_sequences,
    )


@dataclass
class _Group:
    """The beams of one group for one prompt: the finished ones, best first, and whether others may still
    finish.
    """

    size: int
    finished: list = field(default_factory=list)  # (score, new tokens)
    open: bool = True

    def finish(self, score: float, tokens: list[int]) -> None:
        self.finished = sorted([*self.finished, (score, tokens)], key=lambda one: -one[0])[: self.size]


def _search(
    run: Run, K: int, G: int, diversity: float, length_penalty: float, early_stopping, N: int
) -> Tensor:
    number("num_beams", K, 1, accepted="a positive integer", integer=True)
    number("num_return_sequences", N, 1, K, accepted=f"an integer from 1 to num_beams ({K})", integer=True)
    number("length_penalty", length_penalty, -10.0, 10.0)
    if not isinstance(early_stopping, bool) and early_stopping != "never":
        raise ValueError(f'early_stopping: {early_stopping!r} given, True, False or "never" is accepted')
    if K % G:
        raise ValueError(f"num_beam_groups: {G} given, a divisor of num_beams ({K}) is accepted")
    for name, value in {"on_token": run.on_token, "stopping_criteria": run.criteria}.items():
        if value:  # beams change their past
            raise ValueError(f"{name}: given, none is accepted by a search over beams")
    (B, start), k, device = run.ids.shape, K // G, run.ids.device
    start -= run.max_new_tokens
    groups = [[_Group(k) for _ in range(G)] for _ in range(B)]
    scores = torch.zeros(B, 1, device=device)  # (B, 1): one beam at first, K from the first choice on
    for step in range(1, run.max_new_tokens + 1):
        log_p = run.process(run.next_logits().log_softmax(dim=-1))
        V = log_p.shape[-1]
        log_p, beams = log_p.view(B, -1, V), len(log_p) // B  # (B, 1 or K, V)
        parents, tokens, new_scores = ([[] for _ in range(B)] for _ in range(3))  # each becomes (B, K)
        for g in range(G):
            first = 0 if beams == 1 else g * k
            own = slice(first, first + k)
            lowered = log_p[:, own]
            if g and diversity:
                chosen = torch.tensor(tokens, device=device)  # (B, g*k), by the groups before
                counts = torch.zeros(B, V, device=device).scatter_add_(
                    1, chosen, torch.ones_like(chosen, dtype=torch.float32)
                )
                lowered = lowered - diversity * counts[:, None]  # equation (2)
            total = (lowered + scores[:, own, None]).flatten(1)  # (B, k*V)
            # Even if each of the k beams proposes every end token, k candidates are left to go on with.
            top, flat = total.topk(min(max(2, 1 + len(run.eos)) * k, total.shape[1]), dim=1)
            for b, (values, places) in enumerate(zip(top.tolist(), flat.tolist())):
                candidates = [
                    (value, b * beams + first + place // V, place % V) for value, place in zip(values, places)
                ]
                alive = _advance(
                    run,
                    groups[b][g],
                    candidates,
                    step,
                    start,
                    length_penalty,
                    early_stopping,
                    merge_last=G == 1,
                )
                for column, entry in zip((new_scores, parents, tokens), zip(*alive)):
                    column[b].extend(entry)
        scores = torch.tensor(new_scores, dtype=torch.float32, device=device)  # (B, K)
        run.select(torch.tensor(parents, device=device).flatten())
        run.append(torch.tensor(tokens, device=device).flatten())
        if not any(group.open for prompt in groups for group in prompt):
            break

    generated = run.ids[:, start : run.length].view(B, G, k, -1)
    best = []
    for b, prompt in enumerate(groups):
        for g, group in enumerate(prompt):
            for i in range(k if group.open else 0):  # living beams count where the search ran out of steps
                group.finish(float(scores[b, g * k + i]) / step**length_penalty, generated[b, g, i].tolist())
        ranked = sorted((one for group in prompt for one in group.finished), key=lambda one: -one[0])
        best += [new for _, new in ranked[:N]]
    longest = max(map(len, best))
    new = torch.tensor([row + [run.pad] * (longest - len(row)) for row in best], device=device)  # (B*N, new)
    prompts = run.ids.view(B, K, -1)[:, :1, :start].expand(-1, N, -1).reshape(B * N, start)
    return torch.cat([prompts, new.to(prompts.dtype)], dim=1)


def _advance(
    run: Run,
    group: _Group,
    candidates: list,
    step: int,
    start: int,
    length_penalty: float,
    early_stopping,
    merge_last: bool,
) -> list:
    """One step of one group: candidates (score, row, token), the best first, finish or live on; returns the k
    that live on.
    """
    alive, k = [], group.size
    if (
        not group.open
    ):  # its beams go on as padding, which later groups see as chosen tokens: so does transformers 4
        return [(0.0, candidates[0][1], run.pad)] * k
    for rank, (score, row, token) in enumerate(candidates):
        if token in run.eos or (merge_last and step == run.max_new_tokens):
            if rank < k and score > -math.inf:
                group.finish(
                    score / step**length_penalty, run.ids[row, start : run.length].tolist() + [token]
                )
        elif len(alive) < k:
            alive.append((score, row, token))
    # A tiny vocabulary may have fewer than k continuations: the places left are filled with beams that never
    # win.
    alive += [(-math.inf, candidates[0][1], run.pad)] * (k - len(alive))
    if len(group.finished) == k:
        # What the best living beam can reach. transformers 5 asks the beams that live on, its group search
        # asked every candidate.
        best = alive[0][0] if merge_last else candidates[0][0]
        length = run.max_new_tokens if early_stopping == "never" and length_penalty > 0 else step
        group.open = early_stopping is not True and group.finished[-1][0] < best / length**length_penalty
    return alive
