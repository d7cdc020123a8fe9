"""The perturbation r of one weight, or of what is looked up in one table: its gradient, its rows, its backup.

Both take ``move(r, gradient, clean) -> r``, in float32 at least, where r is None at the first step.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tricks_lib.fgm.targets import Places


class Weight:
    """One attacked parameter: what the last backward pass left for it, and what it takes to restore it."""

    def __init__(self, places: Places, by_rows: bool):
        self.module, self.key = places[0]
        self.tables = [module for module, _ in places if isinstance(module, nn.Embedding)]
        by_rows = by_rows and len(self.tables) == len(places)  # else a projection is tied to the table
        self.by_rows = None if by_rows else False  # None: not known before the first attack
        # (V,) bool: rows of the passes since the last backward pass, and before it
        self.looked_up: Tensor | None = None
        self.rows: Any = None
        self.gradient_of_pass: Tensor | None = None
        self.backup: Any = None  # the index of what is moved, and its clean values
        self.fresh = False  # has a gradient of a backward pass since the last attack
        self.hooked = self.parameter
        self.handles = [self.hooked.register_hook(self._backward)]
        if by_rows:
            self.handles += [
                table.register_forward_hook(self._forward, with_kwargs=True) for table in self.tables
            ]

    @property
    def parameter(self) -> nn.Parameter:
        return getattr(self.module, self.key)

    def _forward(self, module, args, kwargs, output):
        if module not in self.tables:
            self.by_rows = False  # a replica that DataParallel made later: it sees a part of the batch
        elif torch.is_grad_enabled():
            ids = args[0] if args else kwargs["input"]
            if self.looked_up is None or self.looked_up.device != ids.device:
                self.looked_up = torch.zeros(module.num_embeddings, dtype=torch.bool, device=ids.device)
            self.looked_up[ids] = True

    def _backward(self, gradient):
        """Hook of the parameter: comes before ``.grad`` is added to."""
        self.fresh, self.rows, self.looked_up = True, self.looked_up, None
        # None: .grad will be just this
        self.gradient_of_pass = None if self.parameter.grad is None else gradient.detach()

    @property
    def gradient(self) -> Tensor | None:
        return self.parameter.grad if self.gradient_of_pass is None else self.gradient_of_pass

    def perturb(self, gradient: Tensor, move, group) -> None:
        if group is not None:
            gradient = gradient.clone()
            dist.all_reduce(gradient, group=group)
            gradient /= dist.get_world_size(group)
        weight, rows, first = self.parameter, self.rows, self.backup is None
        # once: a gradient on other rows shows another use of the table
        if rows is not None and self.by_rows is None:
            self.by_rows = not (gradient.any(dim=1) & ~rows).any()
        if first:
            some = rows is not None and self.by_rows and weight is self.hooked
            index = rows.nonzero().squeeze(1) if some else ...
            self.backup = index, weight[index].clone()
        index, clean = self.backup
        wide = torch.promote_types(gradient.dtype, torch.float32)
        clean = clean.to(wide)
        r = move(None if first else weight[index] - clean, gradient[index].to(wide), clean)
        weight[index] = (clean + r).to(weight.dtype)

    def restore(self) -> None:
        if self.backup is not None:
            index, clean = self.backup
            self.parameter[index] = clean
        if self.gradient_of_pass is not None:
            self.rows = None  # .grad holds other passes too
        self.gradient_of_pass, self.backup, self.fresh = None, None, False


class LookUps:
    """What is looked up in one ``nn.Embedding``, (B, T, H): r is added to it. The table may be frozen."""

    def __init__(self, module: nn.Embedding):
        self.module, self.fresh = module, False
        self.ids: Any = None  # of the last pass: what was looked up, its clean vectors, their gradient; and r
        self.clean: Any = None
        self.gradient: Any = None
        self.r: Tensor | None = None
        # look-ups before one backward pass share a turn; that of the gradient; whether the next has begun
        self.turn, self.of, self.begun = 0, 0, False
        self.handles = [module.register_forward_hook(self._forward, with_kwargs=True)]

    def _forward(self, module, args, kwargs, output):
        ids, clean = args[0] if args else kwargs["input"], output.detach()
        if self.r is not None:
            if ids.shape != self.ids.shape or not torch.equal(ids, self.ids):
                raise ValueError(
                    f"input_ids: another batch, {tuple(ids.shape)}, given after attack(), or two in a pass; "
                    f"with per_example the attacked one is accepted, looked up once in a pass"
                )
            output = output + self.r.to(output.dtype)
        if torch.is_grad_enabled():
            if self.fresh and not self.begun:  # the first look-up after a backward pass
                self.turn, self.begun = self.turn + 1, True
            turn = self.turn
            if not output.requires_grad:  # the table is frozen: what is looked up begins the graph
                output.requires_grad_()
            output.register_hook(lambda gradient: self._backward(gradient, ids, clean, turn))
        return output

    def _backward(self, gradient, ids, clean, turn):
        # the same look-up twice before one backward pass, as R-Drop's two passes have it
        twice = self.gradient is not None and self.of == turn and torch.equal(ids, self.ids)
        self.gradient = self.gradient + gradient if twice else gradient.detach()
        self.ids, self.clean, self.of, self.fresh, self.begun = ids, clean, turn, True, False

    def perturb(self, gradient: Tensor, move, group) -> None:
        wide = torch.promote_types(gradient.dtype, torch.float32)
        self.r = move(self.r, gradient.to(wide), self.clean.to(wide))
        self.gradient = None

    def restore(self) -> None:
        self.clean, self.gradient, self.r, self.fresh, self.begun = None, None, None, False, False
