"""Texts longer than the encoder's window: segments linked by memory, sliding windows, head and tail.

XLNet reads a document as segments of L tokens. Layer l of segment s attends to its own input h_s and, before
it, to the memory m_s: the last M inputs that this layer saw in earlier segments, without gradient,

    m_s = last M of stop_gradient([m_(s-1); h_(s-1)])                                           (1)
    layer l: queries h_s, keys and values [m_s; h_s]

The document's vector is the mean or maximum of all its tokens' last states. Nothing masks the memory, so
padding must never enter it: tokens move to the front of their row, and padding falls behind a document's last
token. No gradient flows from one segment to the next, and the paper's authors did not use the memory in
fine-tuning.

Any other encoder reads overlapping windows, each by itself; of the windows' vectors v_w the mean, the
maximum, or

    v = sum_w a_w v_w,   a = softmax_w(q . tanh(W v_w + b))                                     (2)

The baseline to beat costs one window: the document's first tokens and its last. In evaluation the peak of
memory depends on the length of a segment or window, not of the document; in training it grows with the
document.

Sources: (1) Yang et al., "XLNet", NeurIPS 2019, section 2.4, after Dai et al., "Transformer-XL", ACL 2019,
section 3.2; (2) Yang et al., "Hierarchical Attention Networks", NAACL 2016, equations 8 to 10, over windows
in place of sentences; head and tail: Sun et al., "How to Fine-Tune BERT for Text Classification?", CCL 2019,
"dealing with long texts".
Shapes: B documents, T tokens, L segment, M memory, S segments or windows of a document, N windows of a batch,
H hidden, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib._documents import LongClassifier, check_documents, positions, tokens_first
from tricks_lib.layer_decay import places
from tricks_lib.mean_pooling import max_pool, mean_pool

__all__ = [
    "split_into_segments",
    "truncate_head_tail",
    "freeze_all_but_last",
    "XLNetLongClassifier",
    "SlidingWindowClassifier",
]


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
        ValueError: wrong shape, dtype or device, an empty batch, a mask with other values than 0 and 1, a
            number out of range.

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


def freeze_all_but_last(model: nn.Module, num_layers: int) -> list[str]:
    """Train the last layers, the pooler, the last norm and everything outside the encoder; freeze the rest.

    Whatever was frozen before: a second call with more layers unfreezes them.

    Args:
        model: an encoder that :func:`tricks_lib.layer_decay.layer_decay_groups` knows, or a module that holds
            one.
        num_layers: how many layers stay trainable, from 0 to all; the embeddings are always frozen.

    Returns:
        names of the parameters that stay trainable.

    Raises:
        TypeError, ValueError: ``model`` is not a module or holds no encoder; ``num_layers`` is not an integer
            in range.

    Example:
        >>> from transformers import XLNetConfig, XLNetModel
        >>> xlnet = XLNetModel(XLNetConfig(n_layer=12, d_model=4, n_head=2, d_inner=4, vocab_size=9))
        >>> sorted({name.split(".")[1] for name in freeze_all_but_last(xlnet, 2)})
        ['10', '11']
    """
    found = places(model)
    depth = max(place.above for place in found if place.part != "head")
    accepted = f"an integer from 0 to the encoder's {depth} layers"
    num_layers = number("num_layers", num_layers, 0, depth, accepted=accepted, integer=True)
    for place in found:
        place.parameter.requires_grad_(
            place.part in ("top", "head") or (place.part == "layer" and place.above < num_layers)
        )
    return [place.name for place in found if place.parameter.requires_grad]


class XLNetLongClassifier(LongClassifier):
    """XLNet over segments linked by its memory, equation (1), one vector a document, dropout and one linear
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
        accepted = f"an integer from 0 to the encoder's mem_len {most}"
        mem_len = number("mem_len", mem_len, 0, most, accepted=accepted, integer=True)
        if pool not in ("mean", "max"):
            raise ValueError(f"pool: {pool!r} given, mean or max is accepted")
        self.segment_length, self.mem_len, self.pool = segment_length, mem_len, pool

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one a row -> (B, H)."""
        pool, L, M = {"mean": mean_pool, "max": max_pool}[self.pool], self.segment_length, self.mem_len
        segments = split_into_segments(ids, L, keep)
        counts = torch.stack([keep_s.sum(dim=1) for _, keep_s in segments], dim=1)  # (B, S)
        rows, mems, vectors = torch.arange(len(ids), device=ids.device), None, []
        for s, (ids_s, keep_s) in enumerate(segments):
            alive = counts[rows, s] > 0  # shorter documents leave: padding enters no memory
            rows = rows[alive]
            mems = mems and [m[-M:, alive] for m in mems]  # each (M, rows, H)
            inputs = {} if types is None else {"token_type_ids": types[rows, s * L : (s + 1) * L]}
            mask = keep_s[rows].float()  # XLNetModel crashes on a bool mask
            out = self.encoder(ids_s[rows], attention_mask=mask, mems=mems, use_mems=M > 0, **inputs)
            vector, mems = pool(out.last_hidden_state, mask), out.mems  # (rows, H)
            vectors.append(vector.new_zeros(len(ids), vector.shape[1]).index_copy(0, rows, vector))
        vectors = torch.stack(vectors, dim=1)  # (B, S, H)
        if self.pool == "max":
            return max_pool(vectors, counts > 0)
        share = counts.to(torch.promote_types(vectors.dtype, torch.float32)) / counts.sum(
            dim=1, keepdim=True
        )  # (B, S), of the document's tokens
        return torch.einsum("bs,bsh->bh", share, vectors.to(share.dtype)).to(vectors.dtype)


class SlidingWindowClassifier(LongClassifier):
    """Any encoder over overlapping windows, one vector a document, dropout and one linear layer.

    A window's vector is the mean of its tokens' last states. No special tokens are added.

    Saved, loaded and trained as :class:`tricks_lib.mean_pooling.MeanPoolingClassifier`.

    Args:
        encoder: a Hugging Face encoder whose output has ``last_hidden_state``. Of an encoder-decoder model
            (BART, T5) the encoder is taken, ``get_encoder()``.
        num_labels: C; with 1 the task is regression.
        window_length: in tokens; default: 512, or the encoder's positions if these are fewer.
        stride: tokens from one window's start to the next's; default: half a window.
        pool: ``"mean"``, ``"max"`` or ``"attention"``, equation (2), over the windows.
        windows_at_once: windows encoded in one pass; bounds the memory in evaluation.
        dropout: on the document's vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.
        head_bias: initial bias of the head: one number, or C of them; default 0.

    Raises:
        TypeError, ValueError: ``encoder`` is no module with a ``config.hidden_size``; ``pool`` is another
            word; a number is out of range.
    """

    settings = ("window_length", "stride", "pool", "windows_at_once")

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        window_length: int | None = None,
        stride: int | None = None,
        pool: str = "mean",
        windows_at_once: int = 32,
        dropout: float | None = None,
        head_bias: float | Sequence[float] | Tensor | None = None,
    ):
        super().__init__(encoder, num_labels, dropout, head_bias)
        most = positions(self.encoder)
        window_length = min(512, most) if window_length is None else window_length
        accepted = f"an integer from 1 to the encoder's {most} positions"
        window_length = number("window_length", window_length, 1, most, accepted=accepted, integer=True)
        stride = max(1, window_length // 2) if stride is None else stride
        accepted = f"an integer from 1 to window_length {window_length}"
        stride = number("stride", stride, 1, window_length, accepted=accepted, integer=True)
        windows_at_once = number(
            "windows_at_once", windows_at_once, 1, accepted="a positive integer", integer=True
        )
        if pool not in ("mean", "max", "attention"):
            raise ValueError(f"pool: {pool!r} given, mean, max or attention is accepted")
        self.window_length, self.stride, self.pool = window_length, stride, pool
        self.windows_at_once = windows_at_once
        if pool == "attention":
            H, dtype = self.config.hidden_size, self.classifier.weight.dtype
            self.attention = nn.Sequential(
                nn.Linear(H, H, dtype=dtype), nn.Tanh(), nn.Linear(H, 1, bias=False, dtype=dtype)
            )

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one a row -> (B, H)."""
        W = min(self.window_length, ids.shape[1])
        # a document of n tokens has 1 + ceil((n - W) / stride) windows: the last is the first that reaches
        # its end
        windows = 1 + (keep.sum(dim=1) - W).clamp(min=0).add(self.stride - 1).div(
            self.stride, rounding_mode="floor"
        )  # (B,)
        S = int(windows.max())
        real = torch.arange(S, device=ids.device) < windows.unsqueeze(1)  # (B, S)

        def cut(x):
            return F.pad(x, (0, W + (S - 1) * self.stride - x.shape[1])).unfold(1, W, self.stride)[
                real
            ]  # (N, W)

        inputs = {"input_ids": cut(ids), "attention_mask": cut(keep.long())}
        if types is not None:
            inputs["token_type_ids"] = cut(types)
        vectors = []
        for n in range(0, len(inputs["input_ids"]), self.windows_at_once):
            some = {name: x[n : n + self.windows_at_once] for name, x in inputs.items()}
            vectors.append(mean_pool(self.encoder(**some).last_hidden_state, some["attention_mask"]))
        vectors = torch.cat(vectors)  # (N, H)
        vectors = vectors.new_zeros(*real.shape, vectors.shape[1]).index_put(
            real.nonzero(as_tuple=True), vectors
        )  # (B, S, H)
        if self.pool == "attention":
            score = self.attention(vectors).squeeze(-1).masked_fill(~real, float("-inf"))  # (B, S)
            return torch.einsum("bs,bsh->bh", score.softmax(dim=1), vectors)  # equation (2)
        return {"mean": mean_pool, "max": max_pool}[self.pool](vectors, real)
