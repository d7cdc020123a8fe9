"""Texts longer than the encoder's window: segments linked by memory, sliding windows, head and tail.

XLNet reads a document as segments of L tokens. Layer l of segment s attends to its own input h_s and, before it, to the
memory m_s: the last M inputs that this layer saw in earlier segments, without gradient,

    m_s = last M of stop_gradient([m_(s-1); h_(s-1)]),   layer l: queries h_s, keys and values [m_s; h_s]              (1)

The document's vector is the mean or maximum of all its tokens' last states. Nothing masks the memory, so padding must
never enter it: tokens move to the front of their row, and padding falls behind a document's last token.

Any other encoder reads overlapping windows, each by itself; of the windows' vectors v_w the mean, the maximum, or

    v = sum_w a_w v_w,   a = softmax_w(q . tanh(W v_w + b))                                                            (2)

The baseline to beat costs one window: the document's first tokens and its last.

Limits of (1): no gradient flows from one segment to the next, and the paper's authors did not use the memory in
fine-tuning. The peak of memory in evaluation depends on L and M, not on the document; in training it grows with it.

Sources: (1) Yang et al., "XLNet", NeurIPS 2019, section 2.4, after Dai et al., "Transformer-XL", ACL 2019, section 3.2;
(2) Yang et al., "Hierarchical Attention Networks", NAACL 2016, equations 8 to 10, over windows in place of sentences;
head and tail: Sun et al., "How to Fine-Tune BERT for Text Classification?", CCL 2019, "dealing with long texts".
Shapes: B documents, T tokens, L segment, M memory, S segments or windows of a document, N windows of a batch, H hidden, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor
from tricks_lib.layer_decay import places
from tricks_lib.mean_pooling import MeanPoolingClassifier, classification_loss, max_pool, mean_pool

__all__ = ["split_into_segments", "truncate_head_tail", "freeze_all_but_last", "XLNetLongClassifier", "SlidingWindowClassifier"]


def split_into_segments(input_ids: Tensor, segment_length: int, attention_mask: Tensor | None = None) -> list:
    """Cut a batch of documents into segments; the last may be shorter. Nothing is moved, copied or dropped.

    Args:
        input_ids: (B, T) integers.
        segment_length: L, in tokens.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        list of (B, <= L) ids or, with a mask, list of pairs ids, mask of that shape; views of the inputs.

    Raises:
        TypeError: an argument is not a tensor, ``input_ids`` are not integers, ``segment_length`` is not an integer.
        ValueError: wrong shape or device, an empty batch, a mask with other values than 0 and 1, ``segment_length`` below 1.

    Example:
        >>> split_into_segments(torch.arange(5).view(1, 5), 2)
        [tensor([[0, 1]]), tensor([[2, 3]]), tensor([[4]])]
    """
    _check(input_ids, attention_mask)
    number("segment_length", segment_length, 1, accepted="a positive integer", integer=True)
    ids = input_ids.split(segment_length, dim=1)
    return list(ids) if attention_mask is None else list(zip(ids, attention_mask.split(segment_length, dim=1)))


def truncate_head_tail(input_ids: Tensor, max_length: int, attention_mask: Tensor | None = None, head_length: int | None = None):
    """Keep a long document's first and last tokens; a document that fits stays whole.

    Args:
        input_ids: (B, T) integers.
        max_length: tokens kept of a document.
        attention_mask: (B, T), 1 for a token and 0 for padding; default: every position is a token.
        head_length: how many of them from the beginning; default: a quarter, as the source's 128 of 512.

    Returns:
        (B, min(T, max_length)) ids, the padding at the end; with a mask, the pair ids, mask.

    Raises:
        TypeError, ValueError: as :func:`split_into_segments`; ``head_length`` is not an integer from 0 to ``max_length``.

    Example:
        >>> truncate_head_tail(torch.arange(9).view(1, 9), 4, head_length=1)
        tensor([[0, 6, 7, 8]])
    """
    keep = _check(input_ids, attention_mask)
    number("max_length", max_length, 1, accepted="a positive integer", integer=True)
    head = max_length // 4 if head_length is None else head_length
    number("head_length", head, 0, max_length, accepted=f"an integer from 0 to max_length {max_length}", integer=True)
    order = _tokens_first(keep)
    length = keep.sum(dim=1, keepdim=True)  # (B, 1)
    position = torch.arange(min(keep.shape[1], max_length), device=keep.device).expand(len(keep), -1)
    # of n > max_length tokens, what follows the head is the end: position p comes from p + n - max_length
    source = order.gather(1, position + (length - max_length).clamp(min=0) * (position >= head))
    ids = input_ids.gather(1, source)
    return ids if attention_mask is None else (ids, attention_mask.gather(1, source))


def freeze_all_but_last(model: nn.Module, num_layers: int) -> list[str]:
    """Train the last layers, the pooler, the last norm and everything outside the encoder; freeze the rest.

    Afterwards ``requires_grad`` is as said for every parameter, whatever it was before, so that a second call with
    more layers unfreezes them. Layers are found as by :func:`tricks_lib.layer_decay.layer_decay_groups`.

    Args:
        model: a Hugging Face encoder, or a module that holds one.
        num_layers: how many layers stay trainable, from 0 to all; the embeddings are always frozen.

    Returns:
        names of the parameters that stay trainable.

    Raises:
        TypeError: ``model`` is not a module, ``num_layers`` is not an integer.
        ValueError: no encoder in ``model``, or more layers asked for than it has.

    Example:
        >>> from transformers import XLNetConfig, XLNetModel
        >>> xlnet = XLNetModel(XLNetConfig(n_layer=12, d_model=4, n_head=2, d_inner=4, vocab_size=9))
        >>> sorted({name.split(".")[1] for name in freeze_all_but_last(xlnet, 2)})
        ['10', '11']
    """
    found = places(model)
    depth = max(place.above for place in found if place.part != "head")
    number("num_layers", num_layers, 0, depth, accepted=f"an integer from 0 to the encoder's {depth} layers", integer=True)
    for place in found:
        place.parameter.requires_grad_(place.part in ("top", "head") or (place.part == "layer" and place.above < num_layers))
    return [place.name for place in found if place.parameter.requires_grad]


class _LongClassifier(MeanPoolingClassifier):
    """Encoder, dropout, linear layer and checks as there; the document's vector is made by ``document_vectors`` of the subclass."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, token_type_ids: Tensor | None = None):
        """Logits and, with labels, the loss.

        Args:
            input_ids: (B, T) token ids of whole documents, T from 1 up, padded on any side.
            attention_mask: (B, T); default: every position is a token.
            labels: as :func:`tricks_lib.mean_pooling.classification_loss`.
            token_type_ids: (B, T), cut and passed on with the ids.

        Returns:
            ``transformers.modeling_outputs.SequenceClassifierOutput`` with logits (B, C), not passed through a sigmoid;
            an all-padding document counts as the vector 0.

        Raises:
            TypeError, ValueError: as :func:`split_into_segments`; labels of another shape or outside 0..C-1.
        """
        from transformers.modeling_outputs import SequenceClassifierOutput

        keep = _check(input_ids, attention_mask)  # (B, T) bool
        if token_type_ids is not None:
            _check(input_ids, token_type_ids, "token_type_ids")
        longest = max(1, int(keep.sum(dim=1).max()))
        order = _tokens_first(keep)[:, :longest]
        keep, ids, types = (x if x is None else x.gather(1, order) for x in (keep, input_ids, token_type_ids))
        empty = ~keep.any(dim=1, keepdim=True)  # (B, 1)
        keep[:, :1] |= empty  # an encoder may answer NaN where it sees no token at all: let it see one, and forget the answer
        vectors = self.document_vectors(ids, keep, types).masked_fill(empty, 0)  # (B, H)
        logits = self.classifier(self.dropout(vectors))  # (B, C)
        loss = None if labels is None else classification_loss(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class XLNetLongClassifier(_LongClassifier):
    """XLNet over segments linked by its memory, equation (1), one vector a document, dropout and one linear layer.

    Args:
        encoder: a ``transformers.XLNetModel``.
        num_labels: C; with 1 the task is regression.
        segment_length: L, in tokens.
        mem_len: M, in tokens; default: L or the encoder's own ``mem_len`` if that is less; 0 makes segments independent.
        pool: ``"mean"`` or ``"max"`` over all tokens of the document.
        dropout: on the document's vector; default 0.1.

    Raises:
        TypeError: ``encoder`` is not an XLNetModel, or a number is not one.
        ValueError: a number is out of range, ``mem_len`` is more than the encoder keeps, ``pool`` is another word.
    """

    def __init__(self, encoder: nn.Module, num_labels: int, segment_length: int = 512, mem_len: int | None = None,
                 pool: str = "mean", dropout: float | None = None):  # fmt: skip
        from transformers import XLNetModel

        if not isinstance(encoder, XLNetModel):
            raise TypeError(f"encoder: {type(encoder).__name__} given, a transformers.XLNetModel is accepted")
        super().__init__(encoder, num_labels, dropout)
        number("segment_length", segment_length, 1, accepted="a positive integer", integer=True)
        most = encoder.mem_len or float("inf")  # the encoder keeps no more than its own mem_len; None or 0: all
        mem_len = min(segment_length, most) if mem_len is None else mem_len
        number("mem_len", mem_len, 0, most, accepted=f"an integer from 0 to the encoder's mem_len {most}", integer=True)
        _check_word("pool", pool, ("mean", "max"))
        self.segment_length, self.mem_len, self.pool = segment_length, mem_len, pool

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one a row -> (B, H)."""
        pool = {"mean": mean_pool, "max": max_pool}[self.pool]
        rows, mems, vectors, counts = torch.arange(len(ids), device=ids.device), None, [], []
        segments = split_into_segments(ids, self.segment_length, keep.long())
        type_segments = [None] * len(segments) if types is None else split_into_segments(types, self.segment_length)
        for (ids_s, keep_s), types_s in zip(segments, type_segments):
            alive = keep_s[rows, 0] > 0  # tokens stand first: a document reaches this segment if it fills its first position
            rows = rows[alive]
            mems = mems and [m[-self.mem_len :, alive] for m in mems]  # each (M, rows, H)
            inputs = {} if types is None else {"token_type_ids": types_s[rows]}
            mask = keep_s[rows].float()  # XLNetModel crashes on a bool mask
            out = self.encoder(ids_s[rows], attention_mask=mask, mems=mems, use_mems=self.mem_len > 0, **inputs)
            vector = pool(out.last_hidden_state, mask)  # (rows, H)
            vectors.append(vector.new_zeros(len(ids), vector.shape[1]).index_copy(0, rows, vector))
            counts.append(keep_s.sum(dim=1))
            mems = out.mems
        vectors, counts = torch.stack(vectors, dim=1), torch.stack(counts, dim=1)  # (B, S, H), (B, S)
        if self.pool == "max":
            return max_pool(vectors, counts > 0)
        counts = counts.to(torch.promote_types(vectors.dtype, torch.float32))
        share = counts / counts.sum(dim=1, keepdim=True)  # (B, S), of the document's tokens those in this segment
        return (share.unsqueeze(-1) * vectors).sum(dim=1).to(vectors.dtype)


class SlidingWindowClassifier(_LongClassifier):
    """Any encoder over overlapping windows, one vector a document, dropout and one linear layer.

    A window's vector is the masked mean of its last hidden states. A document's windows depend on its own length only,
    so neither padding nor the rest of the batch changes its vector. No special tokens are added.

    Args:
        encoder: a Hugging Face encoder whose output has ``last_hidden_state``.
        num_labels: C; with 1 the task is regression.
        window_length: in tokens; default: 512, or the encoder's ``max_position_embeddings`` if that is less.
        stride: tokens from one window's start to the next's; default: half a window.
        pool: ``"mean"``, ``"max"`` or ``"attention"``, equation (2), over the windows.
        windows_at_once: windows encoded in one pass; bounds the memory in evaluation.
        dropout: on the document's vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.

    Raises:
        TypeError: ``encoder`` is not a module with a ``config.hidden_size``, or a number is not one.
        ValueError: a number is out of range, ``stride`` would leave tokens out, ``pool`` is another word.
    """

    def __init__(self, encoder: nn.Module, num_labels: int, window_length: int | None = None, stride: int | None = None,
                 pool: str = "mean", windows_at_once: int = 32, dropout: float | None = None):  # fmt: skip
        super().__init__(encoder, num_labels, dropout)
        positions = getattr(encoder.config, "max_position_embeddings", None) or -1  # XLNet says -1: no limit
        most = positions if positions > 0 else float("inf")
        window_length = min(512, most) if window_length is None else window_length
        number("window_length", window_length, 1, most, accepted=f"an integer from 1 to the encoder's {most} positions", integer=True)
        stride = max(1, window_length // 2) if stride is None else stride
        number("stride", stride, 1, window_length, accepted=f"an integer from 1 to window_length {window_length}", integer=True)
        number("windows_at_once", windows_at_once, 1, accepted="a positive integer", integer=True)
        _check_word("pool", pool, ("mean", "max", "attention"))
        self.window_length, self.stride, self.pool, self.windows_at_once = window_length, stride, pool, windows_at_once
        if pool == "attention":
            H, dtype = encoder.config.hidden_size, self.classifier.weight.dtype
            self.attention = nn.Sequential(nn.Linear(H, H, dtype=dtype), nn.Tanh(), nn.Linear(H, 1, bias=False, dtype=dtype))

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one a row -> (B, H)."""
        W = min(self.window_length, ids.shape[1])
        # a document of n tokens has 1 + ceil((n - W) / stride) windows: the last is the first that reaches its end
        windows = 1 + (keep.sum(dim=1) - W).clamp(min=0).add(self.stride - 1).div(self.stride, rounding_mode="floor")  # (B,)
        S = int(windows.max())
        real = torch.arange(S, device=ids.device) < windows.unsqueeze(1)  # (B, S)

        def cut(x):
            return F.pad(x, (0, W + (S - 1) * self.stride - x.shape[1])).unfold(1, W, self.stride)[real]  # (N, W)

        inputs = {"input_ids": cut(ids), "attention_mask": cut(keep.long())}
        if types is not None:
            inputs["token_type_ids"] = cut(types)
        vectors = []
        for chunk in zip(*(x.split(self.windows_at_once) for x in inputs.values())):
            chunk = dict(zip(inputs, chunk))
            vectors.append(mean_pool(self.encoder(**chunk).last_hidden_state, chunk["attention_mask"]))
        vectors = torch.cat(vectors)  # (N, H)
        vectors = vectors.new_zeros(*real.shape, vectors.shape[1]).index_put(real.nonzero(as_tuple=True), vectors)  # (B, S, H)
        if self.pool == "attention":
            score = self.attention(vectors).squeeze(-1).masked_fill(~real, float("-inf"))  # (B, S)
            return torch.einsum("bs,bsh->bh", score.softmax(dim=1), vectors)  # (2)
        return {"mean": mean_pool, "max": max_pool}[self.pool](vectors, real)


def _tokens_first(keep: Tensor) -> Tensor:
    """(B, T) mask -> (B, T) positions, each row's tokens in their order and then its padding."""
    return (~keep).to(torch.uint8).argsort(dim=1, stable=True)


def _check(input_ids, attention_mask, name="attention_mask") -> Tensor:
    """The mask as bool, ones without one; the token types are checked for their shape in the same way."""
    tensor("input_ids", input_ids, floating=False)
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise ValueError(f"input_ids: shape {tuple(input_ids.shape)} given, (B, T) without a zero is accepted")
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    tensor(name, attention_mask)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(f"{name}: shape {tuple(attention_mask.shape)} given, {tuple(input_ids.shape)} (B, T) is accepted")
    same_device(name, attention_mask, "input_ids", input_ids)
    if name == "attention_mask" and attention_mask.dtype != torch.bool:
        require(((attention_mask == 0) | (attention_mask == 1)).all(), "attention_mask: values 0 and 1 are accepted, {} given", attention_mask)
    return attention_mask.bool()


def _check_word(name: str, word, accepted: tuple[str, ...]) -> None:
    if word not in accepted:
        raise ValueError(f"{name}: {word!r} given, one of {', '.join(accepted)} is accepted")
