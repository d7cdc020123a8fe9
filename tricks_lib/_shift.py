"""Whether a model's loss compares the logits of position t with label t or, as causal language models do,
with label t + 1.

No name, base class or attribute says so for every model: some decoders with ``ForCausalLM`` in their name do
not shift, and wrappers hide the name of those that do. The loss itself does: one that shifts never counts the
label of the first token.

Shapes: B batch, T tokens, C classes.
"""

import weakref
from collections.abc import Mapping

import torch
from torch import Tensor, nn

SHIFTING: "weakref.WeakKeyDictionary[nn.Module, bool]" = weakref.WeakKeyDictionary()  # what models are known


def shifts_labels(model: nn.Module, batch: Mapping) -> bool:
    """Whether the loss of ``model`` shifts the labels of ``batch``.

    A model is asked once: where its labels are those of tokens and its classes are a vocabulary, by two
    forward passes of the batch without gradient, in evaluation mode.
    """
    labels = batch.get("labels")
    if not isinstance(labels, Tensor) or labels.ndim != 2 or labels.is_floating_point():
        return False
    model = unwrapped(model)
    if model not in SHIFTING:
        SHIFTING[model] = _predicts_tokens(model) and not _counts_first_label(model, batch)
    return SHIFTING[model]


def unwrapped(model: nn.Module) -> nn.Module:
    """Without ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile`` around it."""
    while isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)) or hasattr(
        model, "_orig_mod"
    ):
        model = getattr(model, "_orig_mod" if hasattr(model, "_orig_mod") else "module")
    return model


def _predicts_tokens(model: nn.Module) -> bool:
    """Whether some layer has as many outputs as a table of embeddings has rows."""
    sizes = {module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)}
    return any(getattr(module, "out_features", None) in sizes for module in model.modules())


@torch.no_grad()
def _counts_first_label(model: nn.Module, batch: Mapping) -> bool:
    """Whether the loss with a label for the first token alone differs from the loss without any label."""
    none = torch.full_like(batch["labels"], -100)
    first = none.clone()
    first[:, 0] = 0
    modes = {module: module.training for module in model.modules()}
    model.eval()  # no dropout, so that the losses are comparable and no random number is used up
    try:
        counted, empty = (_loss(model(**{**batch, "labels": labels})) for labels in (first, none))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return not torch.allclose(counted, empty, equal_nan=True)  # a mean over no label is NaN


def _loss(outputs) -> Tensor:
    if isinstance(outputs, Mapping):
        return outputs["loss"]
    return outputs.loss if hasattr(outputs, "loss") else outputs[0]
