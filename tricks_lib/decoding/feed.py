"""What the model sees in each step: the columns that its cache has not, their positions, the mask.

A model of transformers says itself how it is fed (``prepare_inputs_for_generation``), and ``generate`` feeds
it so: positions that count without padding, linear-attention states, rows of a cache that change places.
Without a cache, step t computes all t positions again: 1 + 2 + ... + T forwards of a column. With it, each
step computes one column and reads the keys and values of the others.
Shapes: R rows, t tokens so far.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from tricks_lib.decoding.prompt import positions_of

# Names that models use; "cache" is that of transformers from 5.24 on.
CACHES = ("cache", "past_key_values", "cache_params", "state", "mems", "past_buckets_states")


class Feed:
    """The inputs of a model of transformers, as ``generate`` makes them.

    Args:
        model: a ``GenerationMixin``. ids: (R, T), the prompts. inputs: the keyword arguments that
            ``generate`` hands to its modes.
    """

    def __init__(self, model, ids: Tensor, inputs: dict):
        from transformers import GenerationMixin

        takes = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
        first = {"next_sequence_length": None, "is_first_iteration": True}
        self.model, self.inputs = model, inputs
        self.now: dict[str, Any] = {name: value for name, value in first.items() if name in takes}
        self.unordered = False  # rows were to change places, and there was no cache to do it in
        self.later = {"next_sequence_length": 1} if "next_sequence_length" in takes else {}
        if hasattr(model, "_get_initial_cache_position"):  # transformers that still counts cached columns
            self.inputs = model._get_initial_cache_position(ids.shape[1], ids.device, inputs)

    @property
    def mask(self) -> Tensor | None:
        return self.inputs.get("attention_mask")

    def forward(self, ids: Tensor, **options):
        """The model's output for the columns of ids (R, t) that it has not seen."""
        inputs = self.model.prepare_inputs_for_generation(ids, **self.now, **self.inputs)
        if self.unordered and inputs["input_ids"].shape[1] < ids.shape[1]:
            raise TypeError(
                f"model: {type(self.model).__name__} given, whose cache is none of its inputs "
                f"{', '.join(self.inputs)}; for beams and candidates one of {', '.join(CACHES)} is accepted"
            )
        out = self.model(**{**inputs, "return_dict": True, **options})
        self.inputs = self.model._update_model_kwargs_for_generation(out, self.inputs)
        self.now = self.later
        return out

    def repeat(self, ids: Tensor, times: int) -> Tensor:
        """Each row ``times`` times, before the first step."""
        ids, self.inputs = self.model._expand_inputs_for_generation(
            expand_size=times, is_encoder_decoder=False, input_ids=ids, **self.inputs
        )
        return ids

    def select(self, rows: Tensor, candidates: bool = False) -> None:
        """Rows (R,) of the cache in that order; one may stand there several times. Beams change places as in
        generate's beam search, candidates as in its contrastive search, which some caches do better.
        """
        name = next((name for name in CACHES if self.inputs.get(name) is not None), None)
        if name is None:  # right where every step computes the whole prefix
            self.unordered = True
            return
        kind = vars(type(self.inputs[name]))
        if candidates and "batch_select_indices" in kind and "reorder_cache" not in kind:
            self.inputs[name].batch_select_indices(rows)
            return
        reorder = getattr(self.model, "_temporary_reorder_cache", None)  # transformers 4
        reorder = reorder or getattr(self.model, "_reorder_cache", None)
        if reorder is not None:
            self.inputs[name] = reorder(self.inputs[name], rows)
        elif hasattr(self.inputs[name], "reorder_cache"):
            self.inputs[name].reorder_cache(rows)
        else:
            raise TypeError(
                f"model: {type(self.model).__name__} given, whose cache ({type(self.inputs[name]).__name__}) "
                f"cannot change the order of its rows; for beams and candidates one that can is accepted"
            )


class PlainFeed:
    """The inputs of a module that is not of transformers, but has the forward of one: ids, a mask, positions
    and a cache with ``reorder_cache``.
    """

    def __init__(self, model, takes, mask: Tensor | None):
        self.model, self.takes, self.mask, self.seen = model, takes, mask, 0
        self.cache: Any = None
        self.name = "cache" if "cache" in takes and "past_key_values" not in takes else "past_key_values"

    def forward(self, ids: Tensor, **options):
        columns = slice(self.seen, ids.shape[1])
        inputs = {"input_ids": ids[:, columns], self.name: self.cache, "use_cache": True}
        if self.mask is not None:
            new = self.mask.new_ones(len(ids), ids.shape[1] - self.mask.shape[1])
            inputs["attention_mask"] = self.mask = torch.cat([self.mask, new], dim=1)
            if "position_ids" in self.takes:
                inputs["position_ids"] = positions_of(self.mask)[:, columns]
        out = self.model(**inputs, **options)
        found = (getattr(out, name, None) for name in ("cache", "past_key_values"))
        self.cache, self.seen = next((each for each in found if each is not None), None), ids.shape[1]
        if self.cache is None:
            raise TypeError(
                f"model: one that returns {type(out).__name__} without past_key_values given, a causal "
                f"language model with a cache is accepted"
            )
        return out

    def repeat(self, ids: Tensor, times: int) -> Tensor:
        if self.mask is not None:
            self.mask = self.mask.repeat_interleave(times, dim=0)
        return ids.repeat_interleave(times, dim=0)

    def select(self, rows: Tensor, candidates: bool = False) -> None:
        self.cache.reorder_cache(rows)
