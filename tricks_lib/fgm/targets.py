"""Which parameters an attack moves: the input embeddings, or those whose name contains a given part."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from torch import nn

Places = list[tuple[nn.Module, str]]  # the modules that hold one parameter, and under which attribute


def input_embeddings(model: nn.Module) -> list[nn.Parameter]:
    """The table of every ``get_input_embeddings()`` in ``model``: two towers, or an encoder and a decoder,
    have several. Without one, the largest ``nn.Embedding``, or several that are equally large.
    """
    modules: list[Any] = list(model.modules())
    found: list[nn.Parameter] = []
    for module in modules:
        with suppress(AttributeError, NotImplementedError):
            found.append(module.get_input_embeddings().weight)
    if not found:
        tables: list[Any] = [module.weight for module in modules if isinstance(module, nn.Embedding)]
        largest = max(map(len, tables), default=0)
        found = [table for table in tables if len(table) == largest]
    return [table for table in found if table.ndim == 2]  # the input of images is a convolution


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """All parameters with two axes or more: no biases, no norms."""
    return [value for value in model.parameters() if value.ndim > 1]


def find(
    model: nn.Module, target: str | None, default: Callable[[nn.Module], Iterable], look_ups: bool
) -> list[Places]:
    """The places of each parameter to attack, tied ones together, in the order of the model.

    Args:
        target: part of a name; None: what ``default(model)`` gives.
        look_ups: what is looked up is attacked: frozen tables are attacked too, and only ``nn.Embedding`` is
            accepted.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        names.setdefault(value, []).append(name)
    if target is None:
        wanted = set(default(model)) & names.keys()
    else:
        wanted = {value for value, each in names.items() if target and any(target in name for name in each)}
    tables = {value for value in wanted if value.ndim > 1}
    trainable = {value for value in tables if value.requires_grad or look_ups}
    if not trainable:
        raise ValueError(_nothing(model, target, default, names, wanted, tables))
    places = defaultdict(list)
    for module in model.modules():
        for key, value in module.named_parameters(recurse=False):
            if value in trainable and (not look_ups or isinstance(module, nn.Embedding)):
                places[value].append((module, key))
    if len(places) < len(trainable):
        given = f"model: {type(model).__name__}" if target is None else f"target: {target!r}"
        raise ValueError(f"{given} given with per_example, parameters of nn.Embedding alone are accepted")
    return list(places.values())


def _nothing(model, target, default, names, wanted, tables) -> str:
    """Why there is nothing to attack."""
    kind, what = type(model).__name__, default.__name__.replace("_", " ")
    if target is None and not tables:
        return f"model: {kind} without {what} given, one with trainable {what} is accepted"
    if target is None:
        frozen = ", ".join(sorted(names[value][0] for value in tables))
        also = " (an attack per example takes frozen ones too: it moves what is looked up in them)"
        return (
            f"model: {kind} with frozen {what}, {frozen}, given; trainable ones are accepted"
            f"{also if default is input_embeddings else ''}"
        )
    if any(value.requires_grad for value in wanted):
        flat = ", ".join(sorted(names[value][0] for value in wanted))
        return (
            f"target: {target!r} given, it matches one-dimensional parameters alone, {flat}; a part of the "
            f"name of a table or matrix is accepted"
        )
    trainable = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.weight.requires_grad
    ]
    return (
        f"target: {target!r} given, it matches no trainable parameter; a part of a name is accepted, of "
        f"embeddings here {trainable}"
    )
