"""What the two classifiers of :mod:`tricks_lib.xlnet_long_text` share: checks, tokens moved to the front of
their row, the head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tricks_lib._checks import same_device, tensor
from tricks_lib._classifier import EncoderClassifier
from tricks_lib.mean_pooling.masks import check_mask


class LongClassifier(EncoderClassifier):
    """The document's vector is made by ``document_vectors`` of the subclass."""

    document_vectors: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_dict: bool | None = None,
        **others,
    ):
        """As :meth:`tricks_lib.mean_pooling.MeanPoolingClassifier.forward`.

        Args:
            input_ids, attention_mask: (B, T), whole documents of 1 token up, padded on any side; a row of
                padding alone has the vector 0.
            labels: as :func:`tricks_lib.mean_pooling.classification_loss`.
            token_type_ids: (B, T) integers, cut and passed on with the ids.
            return_dict: False gives a tuple.
            **others: not accepted, unless None or False.

        Raises:
            TypeError: another input is given.
        """
        if given := [name for name, value in others.items() if value is not None and value is not False]:
            raise TypeError(f"{given[0]}: given, input_ids, attention_mask and token_type_ids are accepted")
        keep = check_documents(input_ids, attention_mask, token_type_ids)  # (B, T) bool
        same_device("input_ids", input_ids, "model", self.classifier.weight)
        order = tokens_first(keep)[:, : max(1, int(keep.sum(dim=1).max()))]
        keep, ids, types = (x if x is None else x.gather(1, order) for x in (keep, input_ids, token_type_ids))
        empty = ~keep.any(dim=1, keepdim=True)  # (B, 1)
        keep[:, :1] |= (
            # an encoder may answer NaN where it sees no token at all: let it see one, and forget the answer
            empty
        )
        vectors = self.document_vectors(ids, keep, types).masked_fill(empty, 0)  # (B, H)
        return self.classify(vectors, labels, return_dict=return_dict)


def tokens_first(keep: Tensor) -> Tensor:
    """(B, T) bool -> (B, T) positions: each row's tokens in their order, then its padding."""
    return (~keep).byte().argsort(dim=1, stable=True)


def positions(encoder: nn.Module) -> float:
    """Tokens that the encoder has positions for; infinity if it has no limit."""
    if not getattr(encoder.config, "position_biased_input", True):  # DeBERTa, by relative positions alone
        return float("inf")
    limit = getattr(encoder.config, "max_position_embeddings", None) or -1  # XLNet says -1
    tables = [m for name, m in encoder.named_modules() if name.endswith("position_embeddings")]
    unused = max(
        (m.padding_idx + 1 for m in tables if getattr(m, "padding_idx", None) is not None), default=0
    )  # RoBERTa counts from there
    return limit - unused if limit > 0 else float("inf")


def check_documents(input_ids, attention_mask, token_type_ids=None) -> Tensor:
    """The mask as bool, ones without one."""
    tensor("input_ids", input_ids, floating=False)
    if input_ids.ndim != 2 or 0 in input_ids.shape or input_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"input_ids: {input_ids.dtype} of shape {tuple(input_ids.shape)} given, int32 or int64 (B, T) "
            f"without a zero is accepted"
        )
    for name, value, floating in (
        ("attention_mask", attention_mask, None),
        ("token_type_ids", token_type_ids, False),
    ):
        if value is not None:
            if tensor(name, value, floating).shape != input_ids.shape:
                raise ValueError(
                    f"{name}: shape {tuple(value.shape)} given, {tuple(input_ids.shape)} (B, T) is accepted"
                )
            same_device(name, value, "input_ids", input_ids)
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return check_mask(attention_mask)
