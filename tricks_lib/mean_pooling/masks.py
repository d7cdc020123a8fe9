"""Masks: which positions of a row are tokens, and which of them a pooling reads."""

import torch
from torch import Tensor

from tricks_lib._checks import number, require, same_device, tensor


def exclude_prompt(attention_mask: Tensor, prompt_length: int | Tensor) -> Tensor:
    """The mask without the first tokens of each row, so that a pooling does not read the prompt.

    Args:
        attention_mask: (B, T), bool, integer or float, 1 for a token and 0 for padding, on either side; one
            run of tokens a row.
        prompt_length: tokens of the prompt, its special tokens included: one number, or integers (B,).

    Returns:
        (B, T), a new tensor of the mask's dtype; all 0 for a row with no more tokens than its prompt.

    Raises:
        TypeError: the mask is not a tensor; ``prompt_length`` is neither an integer nor a tensor of them.
        ValueError: wrong shape or device, a negative number, a mask with other values than 0 and 1, a row
            with gaps (on CUDA values are not checked).

    Example:
        >>> exclude_prompt(torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]), 2)
        tensor([[0, 0, 1, 1, 0],
                [0, 0, 0, 1, 1]])
    """
    keep = one_run(check_mask(attention_mask))
    if isinstance(prompt_length, Tensor):
        tensor("prompt_length", prompt_length, floating=False)
        if prompt_length.shape not in {(), (1,), (len(keep),)}:
            raise ValueError(
                f"prompt_length: shape {tuple(prompt_length.shape)} given, ({len(keep)},) (B,) is accepted"
            )
        same_device("prompt_length", prompt_length, "attention_mask", attention_mask)
        accepted = "prompt_length: numbers of at least 0 are accepted, {} given"
        require((prompt_length >= 0).all(), accepted, prompt_length)
        prompt_length = prompt_length.view(-1, 1)  # (B, 1)
    else:
        accepted = "an integer of at least 0, or a tensor of them,"
        prompt_length = number("prompt_length", prompt_length, 0, accepted=accepted, integer=True)
    return attention_mask.masked_fill(keep.cumsum(dim=1) <= prompt_length, 0)


def kept_tokens(hidden_states, attention_mask) -> Tensor:
    """The mask as bool, if it fits the states."""
    tensor("hidden_states", hidden_states, floating=True)
    tensor("attention_mask", attention_mask)
    if hidden_states.ndim != 3 or 0 in hidden_states.shape:
        raise ValueError(
            f"hidden_states: shape {tuple(hidden_states.shape)} given, (B, T, H) without a zero is accepted"
        )
    if attention_mask.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"attention_mask: shape {tuple(attention_mask.shape)} given, {tuple(hidden_states.shape[:2])} "
            f"(B, T) is accepted"
        )
    same_device("attention_mask", attention_mask, "hidden_states", hidden_states)
    return check_mask(attention_mask)


def check_mask(attention_mask) -> Tensor:
    """The mask as bool."""
    tensor("attention_mask", attention_mask)
    if attention_mask.ndim != 2 or 0 in attention_mask.shape:
        raise ValueError(
            f"attention_mask: shape {tuple(attention_mask.shape)} given, (B, T) without a zero is accepted"
        )
    if attention_mask.dtype != torch.bool:
        require(
            ((attention_mask == 0) | (attention_mask == 1)).all(),
            "attention_mask: values 0 and 1 are accepted, {} given",
            attention_mask,
        )
    return attention_mask.bool()


def one_run(keep: Tensor) -> Tensor:
    """The mask, if the tokens of each row stand side by side: texts packed with gaps between them do not."""
    starts = keep[:, :1].sum(dim=1) + (keep[:, 1:] & ~keep[:, :-1]).sum(dim=1)  # (B,)
    accepted = "one per row is accepted, packed texts have more"
    message = f"attention_mask: rows with {{}} runs of tokens given, {accepted}"
    require((starts <= 1).all(), message, starts)
    return keep
