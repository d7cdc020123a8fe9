"""How long a T4 would take for what the stand-in models are given to read: tokens, counted layer by layer.

Assumed of a T4, and stated once:

- BERT-base (12 layers of H = 768) reads 98.9 texts of 128 tokens a second in float32, which is what ``fit``
  computes in: NVIDIA's own measurement on a T4, in batches of 8 (github.com/NVIDIA/DeepLearningExamples,
  TensorFlow/LanguageModeling/BERT/README.md). That is 2.2 TFLOP/s of the 8.1 on the card's data sheet. A
  backward pass has twice the operations and takes twice the time: training reads 4,200 tokens a second.
- Attention reads T tokens for each: beside the 24 H^2 operations of a layer 4 T H, a share of T / (6 H).
  XLNet has two such products, of which one is shifted: half as much again for the layer.
- The output layer of a language model is V / (12 H) of a layer.
- No layer takes less than a millisecond, forward, or two, backward: the time to start its kernels from
  Python.
- A step of AdamW reads and writes 28 bytes a parameter, clipping 12: 110 M parameters at 250 GB/s, 18 ms.

Not counted: loading, tokenizing, linear probes and plots on the CPU.
"""

import json
import time
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

LAYERS, H = 12, 768
READ_A_SECOND, LENGTH = 98.9 * 128, 128  # tokens, forward, through LAYERS layers, in texts of LENGTH
LAUNCH = 1e-3  # seconds, a layer, forward
STEP = 110e6 * (28 + 12) / 250e9  # seconds, an optimizer's step on a base model
LAYER_CLASSES = {"BertLayer": 1.0, "GPT2Block": 1.0, "XLNetLayer": 1.5}


def forward(tokens: int, length: int, share: float = 1.0) -> float:
    """Seconds of a layer's forward pass over ``tokens`` tokens in rows of ``length``; ``share``: of a layer's
    work.
    """
    attention = (6 * H + length) / (6 * H + LENGTH)
    return max(LAUNCH, share * attention * tokens / (READ_A_SECOND * LAYERS))


def head(tokens: int, vocabulary: int) -> float:
    """Seconds of a language model's output layer: 2 V H operations a token, beside a layer's 24 H^2."""
    return forward(tokens, 0, vocabulary / (12 * H))


class Count:
    """Seconds on a T4 by cell, of the models whose hidden size is ``width``.

    ``on_cpu`` counts the same work where its tensors lie on the CPU although a GPU is there.
    """

    def __init__(self, width: int):
        self.width, self.cell = width, 0
        self.seconds: dict[int, float] = {}
        self.on_cpu: dict[int, float] = {}
        self.handles = [
            register_module_forward_hook(self.layer),
            register_optimizer_step_post_hook(self.step),
        ]

    def stop(self) -> None:
        for handle in self.handles:
            handle.remove()

    def add(self, seconds: float, where: torch.device) -> None:
        idle = where.type == "cpu" and torch.cuda.is_available()
        of = self.on_cpu if idle else self.seconds
        of[self.cell] = of.get(self.cell, 0.0) + seconds

    def layer(self, module, args, output) -> None:
        name, states = type(module).__name__, args[0] if args else None
        if not isinstance(states, torch.Tensor) or states.is_meta or states.shape[-1] != self.width:
            return
        if name in LAYER_CLASSES and states.dim() == 3:
            B, T = states.shape[:2] if name != "XLNetLayer" else states.shape[1::-1]
            seconds = forward(B * T, T, LAYER_CLASSES[name])
        elif isinstance(module, torch.nn.Linear) and module.out_features > 10_000:
            seconds = head(states[..., 0].numel(), module.out_features)
        else:
            return
        self.add(seconds, states.device)
        out = output[0] if isinstance(output, tuple) else output
        if out.requires_grad:  # counted when, and as often as, a gradient comes back
            out.register_hook(lambda gradient: self.add(2 * seconds, gradient.device))

    def step(self, optimizer, args, kwargs) -> None:
        tensors = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if sum(p.shape[-1:] == (self.width,) for p in tensors) >= 8 * LAYERS:  # it trains a whole base model
            self.add(STEP, tensors[0].device)


def watch(width: int, file: str) -> None:
    """For a notebook's kernel: counts by cell (the first code cell is 1) and keeps ``file`` up to date."""
    from IPython import get_ipython

    events, count = get_ipython().events, Count(width)

    def begin(info):
        count.cell += 1

    def end(result):
        content = {"t4": count.seconds, "on_cpu": count.on_cpu, "busy": time.process_time()}
        Path(file).write_text(json.dumps(content), "utf-8")

    events.register("pre_run_cell", begin)
    events.register("post_run_cell", end)
