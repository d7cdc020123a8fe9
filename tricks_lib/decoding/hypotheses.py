"""What a search over beams keeps of each prompt: its settings, the finished sequences, and which candidates
finish or live on.

Shapes: K beams in G groups of k = K/G.
"""

import math
from dataclasses import dataclass, field

from tricks_lib._checks import number

DEFAULTS = {
    "num_beams": 4,
    "num_beam_groups": 2,
    "diversity_penalty": 1.0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "num_return_sequences": 1,
}


@dataclass
class Settings:
    """The parameters of :func:`~tricks_lib.decoding.diverse_beam_search`, checked."""

    num_beams: int
    num_beam_groups: int
    diversity_penalty: float
    length_penalty: float
    early_stopping: bool | str
    num_return_sequences: int

    @classmethod
    def of(cls, run, **given):
        """As given, else as the run's generation config asks, else the defaults."""
        return cls(**{name: run.asked_for(name, value, DEFAULTS[name]) for name, value in given.items()})

    def __post_init__(self):
        whole = {"accepted": "a positive integer", "integer": True}
        self.num_beams = K = number("num_beams", self.num_beams, 1, **whole)
        self.num_beam_groups = G = number("num_beam_groups", self.num_beam_groups, 1, **whole)
        self.diversity_penalty = number("diversity_penalty", self.diversity_penalty, 0.0, 1e6)
        self.length_penalty = number("length_penalty", self.length_penalty, -10.0, 10.0)
        whole["accepted"] = f"an integer from 1 to num_beams ({K})"
        self.num_return_sequences = number("num_return_sequences", self.num_return_sequences, 1, K, **whole)
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ValueError(
                f'early_stopping: {self.early_stopping!r} given, True, False or "never" is accepted'
            )
        if K % G:
            raise ValueError(f"num_beam_groups: {G} given, a divisor of num_beams ({K}) is accepted")


@dataclass
class Group:
    """The beams of one group for one prompt: the finished ones, best first, and whether others may still
    finish.
    """

    size: int
    finished: list = field(default_factory=list)  # (score, new tokens)
    open: bool = True

    def finish(self, score: float, tokens: list[int]) -> None:
        self.finished = sorted([*self.finished, (score, tokens)], key=lambda one: -one[0])[: self.size]


def advance(run, group: Group, candidates: list, step: int, start: int, by: Settings) -> list:
    """One step of one group: candidates (score, row, token), the best first, finish or live on; returns the k
    that live on.
    """
    k = group.size
    alive: list[tuple[float, int, int]] = []
    merge_last = by.num_beam_groups == 1
    if not group.open:
        # Its beams go on as padding, which later groups see as chosen tokens: so does transformers 4.
        return [(0.0, candidates[0][1], run.pad)] * k
    for rank, (score, row, token) in enumerate(candidates):
        if token in run.eos or (merge_last and step == run.max_new_tokens):
            if rank < k and score > -math.inf:
                new = run.ids[row, start : run.length].tolist() + [token]
                group.finish(score / step**by.length_penalty, new)
        elif len(alive) < k:
            alive.append((score, row, token))
    # A tiny vocabulary may have fewer than k continuations: the places left are filled with beams that never
    # win.
    alive += [(-math.inf, candidates[0][1], run.pad)] * (k - len(alive))
    if len(group.finished) == k:
        # What the best living beam can reach. transformers 5 asks the beams that live on, its group search
        # asked every candidate.
        best = alive[0][0] if merge_last else candidates[0][0]
        length = run.max_new_tokens if by.early_stopping == "never" and by.length_penalty > 0 else step
        group.open = (
            by.early_stopping is not True and group.finished[-1][0] < best / length**by.length_penalty
        )
    return alive
