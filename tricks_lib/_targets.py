"""What :mod:`tricks_lib.fgm` attacks: a parameter, or what is looked up in an embedding; its gradient, its
rows, its backup.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Weight:
    """One attacked parameter: what the last backward pass left for it, and what it takes to restore it."""

    def __init__(self, module: nn.Module, key: str, by_rows: bool):
        self.module, self.key = module, key
        self.by_rows = None if by_rows else False  # None: not known before the first attack
        self.looked_up = self.rows = (
            None  # (V,) bool: rows of the passes since the last backward pass, and before it
        )
        self.gradient_of_pass = self.backup = None
        self.fresh = False  # has a gradient of a backward pass since the last attack
        self.hooked = self.parameter
        self.handles = [self.hooked.register_hook(self._backward)]
        if by_rows and isinstance(module, nn.Embedding):
            self.handles.append(module.register_forward_hook(self._forward, with_kwargs=True))

    @property
    def parameter(self) -> nn.Parameter:
        return getattr(self.module, self.key)

    def _forward(self, module, args, kwargs, output):
        if module is not self.module:
            self.by_rows = False  # a replica that DataParallel made later: it sees a part of the batch
        elif torch.is_grad_enabled():
            ids = args[0] if args else kwargs["input"]
            if self.looked_up is None or self.looked_up.device != ids.device:
                self.looked_up = torch.zeros(module.num_embeddings, dtype=torch.bool, device=ids.device)
            self.looked_up[ids] = True

    def _backward(self, gradient):
        """Hook of the parameter: comes before ``.grad`` is added to."""
        self.fresh, self.rows, self.looked_up = True, self.looked_up, None
        self.gradient_of_pass = (
            None if self.parameter.grad is None else gradient.detach()
        )  # None: .grad will be just this

    @property
    def gradient(self) -> Tensor | None:
        return self.parameter.grad if self.gradient_of_pass is None else self.gradient_of_pass

    def perturb(self, gradient: Tensor, move, group) -> None:
        if group is not None:
            gradient = gradient.clone()
            dist.all_reduce(gradient, group=group)
            gradient /= dist.get_world_size(group)
        weight, rows = self.parameter, self.rows
        if (
            rows is not None and self.by_rows is None
        ):  # once: a gradient on other rows shows another use of the table
            self.by_rows = not (gradient.any(dim=1) & ~rows).any()
        if self.backup is None:
            index = (
                rows.nonzero().squeeze(1)
                if rows is not None and self.by_rows and weight is self.hooked
                else ...
            )
            self.backup = index, weight[index].clone()
        index, clean = self.backup
        wide = torch.promote_types(gradient.dtype, torch.float32)
        weight[index] = move(clean.to(wide), weight[index].to(wide), gradient[index].to(wide)).to(
            weight.dtype
        )

    def restore(self) -> None:
        if self.backup is not None:
            index, clean = self.backup
            self.parameter[index] = clean
        if self.gradient_of_pass is not None:
            self.rows = None  # .grad holds other passes too
        self.gradient_of_pass, self.backup, self.fresh = None, None, False


class LookUps:
    """What is looked up in one ``nn.Embedding``, (B, T, H): r is added to it."""

    def __init__(self, module: nn.Embedding):
        self.module, self.fresh = module, False
        self.ids = self.gradient = self.r = None
        self.handles = [module.register_forward_hook(self._forward, with_kwargs=True)]

    def _forward(self, module, args, kwargs, output):
        ids = args[0] if args else kwargs["input"]
        if self.r is not None:
            if ids.shape != self.ids.shape or not torch.equal(ids, self.ids):
                raise ValueError(
                    f"input_ids: another batch, {tuple(ids.shape)}, given after attack(); with per_example "
                    f"the attacked one is accepted"
                )
            output = output + self.r.to(output.dtype)
        if output.requires_grad:
            output.register_hook(lambda gradient: self._backward(gradient, ids))
        return output

    def _backward(self, gradient, ids):
        self.gradient, self.ids, self.fresh = gradient.detach(), ids, True

    def perturb(self, gradient: Tensor, move, group) -> None:
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        clean = torch.zeros_like(gradient)
        self.r = move(clean, clean if self.r is None else self.r, gradient)

    def restore(self) -> None:
        self.gradient, self.r, self.fresh = None, None, False
