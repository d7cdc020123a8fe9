"""Any encoder over overlapping windows: a document of T tokens has

    1 + ceil(max(0, T - W) / D)                                                                 (3)

of them, W tokens long and D apart, and their vectors v_w become one: the mean, the maximum, or

    v = sum_w a_w v_w,   a = softmax_w(q . tanh(U v_w + b))                                     (4)

Source: (4) Yang et al., "Hierarchical Attention Networks", NAACL 2016, equations 8 to 10, over windows in
place of sentences.
Shapes: B documents, T tokens, S windows of a document, N windows of a batch, H hidden, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib._documents import LongClassifier, positions
from tricks_lib.mean_pooling import max_pool, mean_pool

__all__ = ["SlidingWindowClassifier"]


class SlidingWindowClassifier(LongClassifier):
    """Any encoder over overlapping windows, one vector per document, dropout and one linear layer.

    A window's vector is the mean of its tokens' last states. No special tokens are added.

    Saved, loaded and trained as :class:`tricks_lib.mean_pooling.MeanPoolingClassifier`.

    Args:
        encoder: a Hugging Face encoder whose output has ``last_hidden_state``. Of an encoder-decoder model
            (BART, T5) the encoder is taken, ``get_encoder()``.
        num_labels: C; with 1 the task is regression.
        window_length: in tokens; default: 512, or the encoder's positions if these are fewer.
        stride: tokens from one window's start to the next's; default: half a window.
        pool: ``"mean"``, ``"max"`` or ``"attention"``, equation (4), over the windows.
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
        limited = f"an integer from 1 to the encoder's {most} positions"
        accepted = limited if most < float("inf") else "a positive integer"
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
            H, weight = self.config.hidden_size, self.classifier.weight
            self.attention = nn.Sequential(nn.Linear(H, H), nn.Tanh(), nn.Linear(H, 1, bias=False)).to(weight)

    def document_vectors(self, ids: Tensor, keep: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and types, tokens first and at least one per row -> (B, H)."""
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
            states = self.run_encoder(**some).last_hidden_state
            vectors.append(mean_pool(states, some["attention_mask"]))
        vectors = torch.cat(vectors)  # (N, H)
        vectors = vectors.new_zeros(*real.shape, vectors.shape[1]).index_put(
            real.nonzero(as_tuple=True), vectors
        )  # (B, S, H)
        if self.pool == "attention":
            score = self.attention(vectors).squeeze(-1).masked_fill(~real, float("-inf"))  # (B, S)
            return torch.einsum("bs,bsh->bh", score.softmax(dim=1), vectors)  # equation (4)
        return {"mean": mean_pool, "max": max_pool}[self.pool](vectors, real)
