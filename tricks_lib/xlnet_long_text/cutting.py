"""A batch of documents cut: into segments, which keep every token, or down to its first and last tokens.

Source: head and tail: Sun et al., "How to Fine-Tune BERT for Text Classification?", CCL 2019, "dealing with
long texts".
Shapes: B documents, T tokens, L segment.
"""

import torch
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib._documents import check_documents, tokens_first

__all__ = ["split_into_segments", "truncate_head_tail"]


def split_into_segments(input_ids: Tensor, segment_length: int, attention_mask: Tensor | None = None) -> list:
    """Cut a batch of documents into segments; the last may be shorter. Nothing is moved, copied or dropped.

    Args:
        input_ids: (B, T), int32 or int64.
        segment_length: L, in tokens.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        list of (B, <= L) ids or, with a mask, list of pairs ids, mask of that shape; views of the inputs.

    Raises:
        TypeError: an argument is not a tensor, ``segment_length`` is not an integer.
        ValueError: wrong shape, dtype or device, an empty batch, a mask with other values than 0 and 1 (not
            checked on CUDA), a number out of range.

    Example:
        >>> split_into_segments(torch.arange(5).view(1, 5), 2)
        [tensor([[0, 1]]), tensor([[2, 3]]), tensor([[4]])]
    """
    check_documents(input_ids, attention_mask)
    length = number("segment_length", segment_length, 1, accepted="a positive integer", integer=True)
    ids = input_ids.split(length, dim=1)
    return list(ids) if attention_mask is None else list(zip(ids, attention_mask.split(length, dim=1)))


def truncate_head_tail(
    input_ids: Tensor, max_length: int, attention_mask: Tensor | None = None, head_length: int | None = None
):
    """Keep a long document's first and last tokens; a document that fits stays whole.

    Args:
        input_ids, attention_mask: as :func:`split_into_segments`; default: every position is a token.
        max_length: tokens kept of a document.
        head_length: how many of them from the beginning, 0 to ``max_length``; default: a quarter, as the
            source's 128 of 512.

    Returns:
        (B, min(T, max_length)) ids, the padding at the end; with a mask, the pair ids, mask.

    Raises:
        TypeError, ValueError: as :func:`split_into_segments`.

    Example:
        >>> truncate_head_tail(torch.arange(9).view(1, 9), 4, head_length=1)
        tensor([[0, 6, 7, 8]])
    """
    keep = check_documents(input_ids, attention_mask)
    max_length = number("max_length", max_length, 1, accepted="a positive integer", integer=True)
    head = max_length // 4 if head_length is None else head_length
    number(
        "head_length",
        head,
        0,
        max_length,
        accepted=f"an integer from 0 to max_length {max_length}",
        integer=True,
    )
    length = keep.sum(dim=1, keepdim=True)  # (B, 1)
    position = torch.arange(min(keep.shape[1], max_length), device=keep.device).expand(len(keep), -1)
    # of n > max_length tokens, what follows the head is the end: position p comes from p + n - max_length
    source = tokens_first(keep).gather(1, position + (length - max_length).clamp(min=0) * (position >= head))
    ids = input_ids.gather(1, source)
    return ids if attention_mask is None else (ids, attention_mask.gather(1, source))
