"""A GPU that is none: CPU tensors marked as lying on it, and an error where two devices meet.

``pretend()``, once in a process and for good, makes ``torch.cuda`` say that there is a Tesla T4. A tensor
that is made there or moved there lies in the CPU's memory, but its storage is marked; what is computed from
it is marked as well. An operation on marked and unmarked tensors raises as CUDA would, and so does
``numpy()``. What only a real GPU knows (memory, streams) is not there; its generators draw the CPU's numbers.

A false alarm is possible: a backward formula that makes its gradient anew (XLNet's relative shift has one)
leaves it unmarked, and an optimizer then sees two devices.
"""

import types

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
MARKED: dict[int, StorageWeakRef] = {}  # storages that lie on the GPU, by their address
# Operations that may read another device than they write.
ACROSS = {"copy_", "_foreach_copy_", "_to_copy", "_local_scalar_dense", "set_", "is_same_size"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # of a GPU's tensor, by indices of the CPU
LIKE = {f"{name}_like" for name in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")}
LIKE |= {f"new_{name}" for name in ("empty", "empty_strided", "zeros", "ones", "full")}


def marked(tensor: torch.Tensor) -> bool:
    kept = MARKED.get(address(tensor))
    return kept is not None and not kept.expired()


def address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata if has_storage(tensor) else 0


def has_storage(tensor: torch.Tensor) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta and not tensor.is_sparse


def mark(tensor: torch.Tensor, gpu: bool) -> torch.Tensor:
    if has_storage(tensor):
        MARKED.pop(address(tensor), None)
        if gpu:
            MARKED[address(tensor)] = StorageWeakRef(tensor.untyped_storage())
        if len(MARKED) > 100_000:  # an address is not used again before its mark is gone
            for key in [key for key, kept in MARKED.items() if kept.expired()]:
                del MARKED[key]
    return tensor


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Devices(TorchDispatchMode):
    """Every operation below autograd; what meets in a backward pass has met in the forward pass."""

    def __torch_dispatch__(self, operation, classes, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), operation.overloadpacket.__name__
        inputs = tensors((args, kwargs))
        there = [marked(tensor) for tensor in inputs]
        backward = torch._C._current_graph_task_id() != -1  # its formulas make tensors on the true device
        if any(there) and not backward and name not in ACROSS | LIKE:
            refuse_two_devices(name, args, inputs, there)
        asked = kwargs.get("device")
        if asked is None:
            gpu = any(there[:1]) if name in LIKE else any(there)
        else:
            gpu = asked.type == "cuda"
            kwargs["device"] = CPU if gpu else asked
        old = {address(tensor) for tensor in inputs}
        out = operation(*args, **kwargs)
        for tensor in tensors(out) if name != "set_" else ():  # that one takes a storage as it is
            if address(tensor) not in old:
                mark(tensor, gpu)
        return out


def refuse_two_devices(name: str, args, inputs, there) -> None:
    """As CUDA does; a CPU tensor without dimensions counts as a number."""
    allowed = set()
    if name in INDEXED and there[0]:
        allowed = {id(index) for index in tensors(args[1])}
    for tensor, gpu in zip(inputs, there):
        if not gpu and tensor.dim() and has_storage(tensor) and id(tensor) not in allowed:
            where = [(tuple(t.shape), "cuda" if g else "cpu") for t, g in zip(inputs, there)]
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                f"cpu! (aten.{name} of {where})"
            )


# ---- Methods that move a tensor, and attributes that say where it is ----

REPLACED = ("to", "numpy", "__array__", "__deepcopy__", "device", "is_cuda", "is_cpu")
PLAIN = {name: getattr(torch.Tensor, name) for name in REPLACED}


def moved(tensor, gpu: bool):
    return tensor if gpu == marked(tensor) else mark(tensor.clone(), gpu)


def to(self, *args, **kwargs):
    """``torch.Tensor.to``: to a device, a dtype, both, or where another tensor is and what it is."""
    args, kwargs = list(args), dict(kwargs)
    if args and isinstance(args[0], torch.Tensor):
        args[:1] = [args[0].device, args[0].dtype]
    if args and isinstance(args[0], torch.dtype):
        args.insert(0, None)
    device = kwargs.pop("device", args.pop(0) if args else None)
    device = self.device if device is None else torch.device(device)
    if device.type not in ("cuda", "cpu"):
        return PLAIN["to"](self, device, *args, **kwargs)
    return moved(PLAIN["to"](self, CPU, *args, **kwargs), device.type == "cuda")


def to_numpy(name):
    def method(self, *args, **kwargs):
        if marked(self):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                "host memory first."
            )
        return PLAIN[name](self, *args, **kwargs)

    return method


METHODS = {
    "to": to,
    "cuda": lambda self, *args, **kwargs: moved(self, True),
    "cpu": lambda self, *args, **kwargs: moved(self, False),
    "pin_memory": lambda self, *args, **kwargs: self,
    "get_device": lambda self: 0 if marked(self) else -1,
    "__deepcopy__": lambda self, memo: mark(PLAIN["__deepcopy__"](self, memo), marked(self)),
    "numpy": to_numpy("numpy"),
    "__array__": to_numpy("__array__"),
    "device": property(lambda self: GPU if marked(self) else PLAIN["device"].__get__(self)),
    "is_cuda": property(marked),
    "is_cpu": property(lambda self: not marked(self) and PLAIN["is_cpu"].__get__(self)),
}


def then_moved(make):
    """``torch.tensor`` and ``torch.as_tensor``, which copy to a device without an operation."""

    def made(data, *args, device=None, requires_grad=False, **kwargs):
        out = make(data, *args, **kwargs)
        out = out if device is None else out.to(device)
        return out.requires_grad_() if requires_grad else out

    return made


# ---- torch.cuda ----


def nothing(*args, **kwargs):
    return None


def answers(value):
    return lambda *args, **kwargs: value


T4 = types.SimpleNamespace(
    name="Tesla T4 (pretended)", major=7, minor=5, total_memory=15 << 30, multi_processor_count=40
)
OF_CUDA = {
    **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), answers(True)),
    **dict.fromkeys(("_is_in_bad_fork", "is_current_stream_capturing"), answers(False)),
    **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved"), answers(0)),
    **dict.fromkeys(("manual_seed", "manual_seed_all", "set_rng_state", "set_rng_state_all"), nothing),
    **dict.fromkeys(
        ("_lazy_init", "init", "synchronize", "empty_cache", "ipc_collect", "set_device"), nothing
    ),
    "reset_peak_memory_stats": nothing,
    "device_count": answers(1),
    "current_device": answers(0),
    "get_device_name": answers(T4.name),
    "get_device_capability": answers((T4.major, T4.minor)),
    "get_device_properties": answers(T4),
    "mem_get_info": answers((T4.total_memory, T4.total_memory)),
    "get_rng_state": lambda *args: torch.random.get_rng_state(),
    "get_rng_state_all": lambda: [torch.random.get_rng_state()],
}


class Generator(torch.Generator):
    """The GPU's draws the CPU's random numbers."""

    def __new__(cls, device="cpu"):
        on_gpu = torch.device(device).type == "cuda"
        made = super().__new__(cls, CPU if on_gpu else device)
        made.on_gpu = on_gpu
        return made

    @property
    def device(self):
        return GPU if self.on_gpu else super().device


def pretend() -> None:
    from torch._dynamo.trace_rules import get_torch_obj_rule_map
    from torch.utils._device import _device_constructors

    for names in (get_torch_obj_rule_map, _device_constructors):
        names()  # lists torch's functions, once: before they are replaced
    for name, method in METHODS.items():
        setattr(torch.Tensor, name, method)
    for name in ("tensor", "as_tensor"):
        setattr(torch, name, then_moved(getattr(torch, name)))
    for name, function in OF_CUDA.items():
        setattr(torch.cuda, name, function)
    torch.Generator = Generator
    Devices().__enter__()
