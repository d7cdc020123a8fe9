"""Beam search and diverse beam search: the K best prefixes are kept at each step instead of one.

The search looks for the sequence y of n new tokens with the largest

    score(y) = sum_i log p(y_i | x, y_<i) / n^length_penalty                                   (4)

A beam that meets an end token leaves the search as a finished sequence; the search of a prompt closes when it
has K of them and (``early_stopping=True``) at once, or else when no living beam can beat the worst of them.
Diverse beam search runs G groups of K/G beams, one after the other in each step. A group's log-probabilities
are lowered for what the groups before it have just chosen:

    log p(v) - diversity_penalty * (how many beams of earlier groups chose v in this step)      (5)

Sources: equation (4) and closing as in transformers 5 (`_beam_search`); (5) Vijayakumar et al., "Diverse Beam
Search", AAAI 2018, algorithm 1 with Hamming diversity, closing as in transformers 4.55 (`BeamSearchScorer`).
Shapes: B prompts, K beams, G groups of k = K/G, N returned, T tokens of the prompt, V vocabulary.
"""

import torch
from torch import Tensor
from typing_extensions import Unpack

from tricks_lib.decoding.hypotheses import Group, Settings, advance
from tricks_lib.decoding.options import Options
from tricks_lib.decoding.run import Run

__all__ = ["beam_search", "diverse_beam_search"]


@torch.no_grad()
def beam_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    num_beams: int | None = None,
    length_penalty: float | None = None,
    early_stopping: bool | str | None = None,
    num_return_sequences: int | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """The best sequences by equation (4) that K beams find; token for token what
    ``model.generate(num_beams=K, do_sample=False)`` returns in float32. In half precision two beams may be
    nearer to each other than the rounding, and another one may win.

    Args:
        model, input_ids, max_new_tokens, options: as :func:`~tricks_lib.decoding.greedy_search`, without
            those marked "not for beams".
        num_beams: K, at least 1; default, here and below: what the generation config asks for, else 4.
        length_penalty: from -10 to 10; 0: the sum of log-probabilities; 1, the default: their mean; larger
            values favour longer sequences.
        early_stopping: True: close with K finished sequences; False, the default: when the best living beam,
            at its present length, is no better than the worst of them; "never": when it could not become
            better at any length.
        num_return_sequences: N, at most K; default: 1.

    Returns:
        (B * N, T + new), for each prompt its N best sequences, the best first, padded on the right.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.greedy_search`; a parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> options = {"max_new_tokens": 4, "num_beams": 3, "num_return_sequences": 2}
        >>> beam_search(model, torch.tensor([[1, 2, 3]]), **options).shape
        torch.Size([2, 7])
    """
    given = {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
    given |= {"num_return_sequences": num_return_sequences}
    run = Run(model, input_ids, max_new_tokens, given.keys(), **options)
    return _search(run, Settings.of(run, num_beam_groups=1, diversity_penalty=0.0, **given))


@torch.no_grad()
def diverse_beam_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    num_beams: int | None = None,
    num_beam_groups: int | None = None,
    diversity_penalty: float | None = None,
    length_penalty: float | None = None,
    early_stopping: bool | str | None = None,
    num_return_sequences: int | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Beam search in groups that avoid each other's tokens, equation (5), as ``generate`` did until
    transformers 4.55. All other arguments are those of :func:`beam_search`.

    Args:
        num_beam_groups: G, at least 1; it divides ``num_beams``; default: 2.
        diversity_penalty: from 0 to 1e6, in nats; 0 makes all groups alike; default: 1.

    Returns:
        (B * N, T + new), for each prompt the N best sequences of all groups, scored with the penalties.

    Raises:
        TypeError, ValueError: as :func:`beam_search`; G does not divide K.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> options = {"num_beams": 4, "num_beam_groups": 2, "num_return_sequences": 4}
        >>> diverse_beam_search(model, torch.tensor([[1, 2, 3]]), 4, **options).shape
        torch.Size([4, 7])
    """
    given = {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
    given |= {"num_return_sequences": num_return_sequences, "num_beam_groups": num_beam_groups}
    given |= {"diversity_penalty": diversity_penalty}
    run = Run(model, input_ids, max_new_tokens, given.keys(), **options)
    return _search(run, Settings.of(run, **given))


def _search(run: Run, by: Settings) -> Tensor:
    for name, value in {run.stream.name: run.stream, "stopping_criteria": run.criteria}.items():
        if value:  # beams change their past
            raise ValueError(f"{name}: given, none is accepted by a search over beams")
    K, G, (B, start), device = by.num_beams, by.num_beam_groups, run.ids.shape, run.ids.device
    k, start = K // G, start - run.max_new_tokens
    run.repeat(K)
    groups = [[Group(k) for _ in range(G)] for _ in range(B)]
    scores = torch.zeros(B, 1, device=device)  # (B, 1): one beam at first, K from the first choice on
    for step in range(1, run.max_new_tokens + 1):
        log_p = run.process(run.next_logits().log_softmax(dim=-1))
        V, beams = log_p.shape[-1], scores.shape[1]
        log_p = log_p.view(B, K, V)[:, :beams]  # (B, 1 or K, V)
        parents: list[list[int]] = [[] for _ in range(B)]  # becomes (B, K), as the two below
        tokens: list[list[int]] = [[] for _ in range(B)]
        new_scores: list[list[float]] = [[] for _ in range(B)]
        for g in range(G):
            first = 0 if beams == 1 else g * k
            own = slice(first, first + k)
            lowered = log_p[:, own]
            if g and by.diversity_penalty:
                chosen = torch.tensor(tokens, device=device)  # (B, g*k), by the groups before
                counts = torch.zeros(B, V, device=device).scatter_add_(
                    1, chosen, torch.ones_like(chosen, dtype=torch.float32)
                )
                lowered = lowered - by.diversity_penalty * counts[:, None]  # equation (5)
            total = (lowered + scores[:, own, None]).flatten(1)  # (B, k*V)
            # Even if each of the k beams proposes every end token, k candidates are left to go on with.
            top, flat = total.topk(min(max(2, 1 + len(run.eos)) * k, total.shape[1]), dim=1)
            for b, (values, places) in enumerate(zip(top.tolist(), flat.tolist())):
                candidates = [
                    (value, b * K + first + place // V, place % V) for value, place in zip(values, places)
                ]
                alive = advance(run, groups[b][g], candidates, step, start, by)
                for score, row, token in alive:
                    new_scores[b].append(score)
                    parents[b].append(row)
                    tokens[b].append(token)
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
                score = float(scores[b, g * k + i]) / step**by.length_penalty
                group.finish(score, generated[b, g, i].tolist())
        ranked = sorted((one for group in prompt for one in group.finished), key=lambda one: -one[0])
        best += [new for _, new in ranked[: by.num_return_sequences]]
    longest = max(map(len, best))
    new = torch.tensor([row + [run.pad] * (longest - len(row)) for row in best], device=device)  # (B*N, new)
    prompts = run.ids[::K, :start].repeat_interleave(by.num_return_sequences, dim=0)
    return torch.cat([prompts, new.to(prompts.dtype)], dim=1)
