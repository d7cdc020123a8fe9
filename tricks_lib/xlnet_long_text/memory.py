"""XLNet over segments that are linked by its memory.

    m_s = last M of stop_gradient([m_(s-1); h_(s-1)])                                           (1)
    layer l: queries h_s, keys and values [m_s; h_s]

Source: Yang et al., "XLNet", NeurIPS 2019, section 2.4, after Dai et al., "Transformer-XL", ACL 2019, section
3.2.
Shapes: B documents, T tokens, L segment, M memory, S segments of a document, H hidden, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib._documents import LongClassifier
from tricks_lib.mean_pooling import max_pool, mean_pool
from tricks_lib.xlnet_long_text.cutting import split_into_segments

__all__ = ["XLNetLongClassifier"]


class XLNetLongClassifier(LongClassifier):
    """XLNet over segments linked by its memory, equation (1), one vector per document, dropout and one linear
    layer.

    Saved, loaded and trained as :class:`tricks_lib.mean_pooling.MeanPoolingClassifier`.

    Args:
        encoder: a ``transformers.XLNetModel``.
        num_labels: C; with 1 the task is regression.
        segment_length, mem_len: L and M, in tokens; M defaults to L or, if less, the encoder's ``mem_len``;
            0: no memory.
        pool: ``"mean"`` or ``"max"`` over all tokens of the document.
        dropout: on the document's vector; default 0.1.
        head_bias: initial bias of the head: one number, or C of them; default 0.

    Raises:
        TypeError, ValueError: ``encoder`` is no XLNetModel, or has a ``reuse_len``; ``pool`` is another word;
            a number is out of range.
    """

    settings = ("segment_length", "mem_len", "pool")

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        segment_length: int = 512,
        mem_len: int | None = None,
        pool: str = "mean",
        dropout: float | None = None,
        head_bias: float | Sequence[float] | Tensor | None = None,
    ):
        from transformers import XLNetModel

        if not isinstance(encoder, XLNetModel):
            raise TypeError(f"encoder: {type(encoder).__name__} given, a transformers.XLNetModel is accepted")
        if encoder.reuse_len:
            raise ValueError(
                f"encoder: one that keeps the first {encoder.reuse_len} of a segment (reuse_len) given, "
                f"reuse_len None is accepted"
            )
        super().__init__(encoder, num_labels, dropout, head_bias)
        segment_length = number(
            "segment_length", segment_length, 1, accepted="a positive integer", integer=True
        )
        most = encoder.mem_len or float("inf")  # the encoder keeps no more; None or 0: all
        mem_len = min(segment_length, most) if mem_len is None else mem_len
        limited = f"an integer from 0 to the encoder's mem_len {most}"
        accepted = limited if most < float("inf") else "an integer of at least 0"
        mem_len = number("mem_len", mem_len, 0, most, accepted=accepted, integer=True)
        if pool not in ("mean", "max"):
            raise ValueError(f"pool: {pool!r} given, mean or max is accepted")
        self.segment_length, self.mem_len, self.pool = segment_length, mem_len, pool

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one per row -> (B, H)."""
        pool, L, M = {"mean": mean_pool, "max": max_pool}[self.pool], self.segment_length, self.mem_len
        segments = split_into_segments(ids, L, keep)
        counts = torch.stack([keep_s.sum(dim=1) for _, keep_s in segments], dim=1)  # (B, S)
        rows, mems, vectors = torch.arange(len(ids), device=ids.device), None, []
        for s, (ids_s, keep_s) in enumerate(segments):
            alive = counts[rows, s] > 0  # shorter documents leave: padding enters no memory
            rows = rows[alive]
            mems = mems and [m[-M:, alive] for m in mems]  # each (M, rows, H)
            inputs: dict = {} if types is None else {"token_type_ids": types[rows, s * L : (s + 1) * L]}
            mask = keep_s[rows].float()  # XLNetModel crashes on a bool mask
            inputs |= {"attention_mask": mask, "mems": mems, "use_mems": M > 0, "return_dict": True}
            out = self.encoder(ids_s[rows], **inputs)
            vector, mems = pool(out.last_hidden_state, mask), out.mems  # (rows, H)
            vectors.append(vector.new_zeros(len(ids), vector.shape[1]).index_copy(0, rows, vector))
        vectors = torch.stack(vectors, dim=1)  # (B, S, H)
        if self.pool == "max":
            return max_pool(vectors, counts > 0)
        share = counts.to(torch.promote_types(vectors.dtype, torch.float32)) / counts.sum(
            dim=1, keepdim=True
        )  # (B, S), of the document's tokens
        return (share.unsqueeze(-1) * vectors).sum(dim=1).to(vectors.dtype)
