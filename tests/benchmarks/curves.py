"""``python -m tests.benchmarks.curves``: time and memory of each trick as its work grows, and the exponent
between neighbours.

Forward and backward where there is a backward, one thread. Memory is what one call allocates
(:func:`tricks_lib.lab.show.allocated`). An exponent of 1 is work in proportion. Results go to
``chapters/evidence/bench_curves_<device>.json``.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.benchmarks.bench_decoding import mini_gpt2
from tests.benchmarks.peers import declare_operators_of_torchvision
from tests.benchmarks.sides import mini_bert, step, texts
from tests.benchmarks.timing import exponents, fastest_seconds
from tricks_lib.decoding import beam_search, greedy_search
from tricks_lib.dice_loss import DiceLoss
from tricks_lib.ema import EMA
from tricks_lib.fgm import FGM
from tricks_lib.focal_loss import FocalLoss
from tricks_lib.lab import machine, records, show
from tricks_lib.last_four import concat_last_layers
from tricks_lib.layer_decay import layer_decay_groups
from tricks_lib.mean_pooling import mean_pool
from tricks_lib.mse_corr_loss import MSECorrLoss
from tricks_lib.rdrop import rdrop_forward, symmetric_kl
from tricks_lib.xlnet_long_text import XLNetLongClassifier

LENGTHS = [256, 512, 1024, 2048, 4096, 8192]
CLASSES = [100, 400, 1600, 6400, 25600, 100000]
BATCHES = [8, 16, 32, 64, 128, 256]


@dataclass(frozen=True)
class Curve:
    """``make(device, x) -> function`` without arguments; ``size`` says what stays the same."""

    name: str
    x: str
    points: list[int]
    size: str
    make: Callable


def pooling(device, T):
    hidden_states = torch.randn(4, T, 768, device=device, requires_grad=True)
    mask = (
        torch.arange(T, device=device) < torch.tensor([[T // 4], [T // 2], [3 * T // 4], [T]], device=device)
    ).long()
    return step(lambda h: mean_pool(h, mask).sum(), hidden_states)


def long_text(device, T):
    from transformers import XLNetConfig, XLNetModel

    encoder = XLNetModel(
        XLNetConfig(vocab_size=8192, d_model=192, n_layer=4, n_head=3, d_inner=768, mem_len=256)
    )  # mini_xlnet's shape
    model, input_ids = (
        XLNetLongClassifier(encoder, 2, 256, mem_len=256).eval().to(device),
        torch.randint(8192, (1, T), device=device),
    )
    return torch.no_grad()(lambda: model(input_ids))


def of_classes(loss):
    def make(device, C):
        logits, labels = (
            torch.randn(128, C, device=device, requires_grad=True),
            torch.randint(C, (128,), device=device),
        )
        return step(lambda x: loss(x, labels), logits)

    return make


def divergence(device, C):
    p, q = (torch.randn(128, C, device=device, requires_grad=True) for _ in range(2))
    return step(symmetric_kl, p, q)


def two_in_one(device, B):
    model = mini_bert(device)
    batch = texts(device, B, 16)

    def once():
        model.zero_grad()
        rdrop_forward(model, batch, 1.0).loss.backward()

    return once


def averages(device, parameters):
    model = torch.nn.ParameterList(
        torch.randn(parameters // 200, device=device) for _ in range(200)
    )  # BERT has 199 tensors
    return EMA(model).update


def attack(device, B):
    model = torch.nn.Sequential(torch.nn.Embedding(30000, 256), torch.nn.Linear(256, 2)).to(device)
    fgm = FGM(model)
    model(torch.randint(30000, (B, 32), device=device)).sum().backward()

    def once():
        fgm.attack()
        fgm.restore()

    return once


def last_layers(device, B):
    hidden_states = [torch.randn(B, 32, 256, device=device, requires_grad=True) for _ in range(4)]
    return step(lambda *h: concat_last_layers(h).sum(), *hidden_states)


def groups(device, layers):
    model = mini_bert(
        device,
        vocab_size=64,
        hidden_size=8,
        num_attention_heads=1,
        intermediate_size=8,
        num_hidden_layers=layers,
    )
    return lambda: layer_decay_groups(model, 1e-4)


def beams(device, K):
    model, input_ids = mini_gpt2(device, 1)
    return lambda: beam_search(model, input_ids, 32, num_beams=K, attention_mask=torch.ones_like(input_ids))


def greedy(device, B):
    model, input_ids = mini_gpt2(device, B)
    return lambda: greedy_search(model, input_ids, 16, attention_mask=torch.ones_like(input_ids))


def correlation(device, B):
    targets = torch.randn(B, device=device)
    return step(lambda x: MSECorrLoss()(x, targets), torch.randn(B, device=device, requires_grad=True))


def into_new_memory(device, C):
    return torch.randn(128, C, device=device).clone


def into_old_memory(device, C):
    source, target = torch.randn(128, C, device=device), torch.zeros(128, C, device=device)
    return lambda: target.copy_(source)


CURVES = [
    Curve("mean_pool", "tokens", LENGTHS, "4 texts of 768 numbers per token", pooling),
    Curve("rdrop_forward", "batch", BATCHES, "mini_bert's shape, 16 tokens", two_in_one),
    Curve("symmetric_kl", "classes", CLASSES, "128 rows", divergence),
    Curve("concat_last_layers", "batch", BATCHES, "4 layers, 32 tokens of 256 numbers", last_layers),
    Curve("layer_decay_groups", "layers", [4, 8, 16, 32, 64, 128], "BERT", groups),
    Curve(
        "XLNetLongClassifier", "tokens", LENGTHS, "mini_xlnet's shape, segments of 256, forward", long_text
    ),
    Curve(
        "EMA.update",
        "parameters",
        [100_000, 400_000, 1_600_000, 6_400_000, 25_600_000, 100_000_000],
        "200 tensors",
        averages,
    ),
    Curve("DiceLoss", "classes", CLASSES, "128 rows", of_classes(DiceLoss())),
    Curve("FocalLoss", "classes", CLASSES, "128 rows", of_classes(FocalLoss())),
    Curve("FGM attack+restore", "batch", BATCHES, "32 tokens, 30,000 x 256 embedding", attack),
    Curve("beam_search", "beams", [1, 2, 4, 8, 16], "mini_gpt2's shape, 32 new tokens", beams),
    Curve("greedy_search", "batch", BATCHES, "mini_gpt2's shape, 16 new tokens", greedy),
    Curve("MSECorrLoss", "batch", [256, 1024, 4096, 16384, 65536, 262144], "one target", correlation),
    Curve("Tensor.clone", "classes", CLASSES, "128 rows, a copy in new memory", into_new_memory),
    Curve("Tensor.copy_", "classes", CLASSES, "128 rows, a copy in memory at hand", into_old_memory),
]


def measure(curve: Curve, device: torch.device) -> dict:
    points = []
    for x in curve.points:
        torch.manual_seed(0)
        function = curve.make(device, x)
        seconds = fastest_seconds(function)
        points.append(
            {
                "x": x,
                "ms": round(1e3 * seconds, 4),
                "mb": round(show.allocated(function, device.type == "cuda"), 4),
            }
        )
        del function
        gc.collect()
    x = [point["x"] for point in points]
    return {
        "x": curve.x,
        "size": curve.size,
        "points": points,
        "exponents": {key: exponents(x, [point[key] for point in points]) for key in ("ms", "mb")},
    }


def main(argv=None) -> int:
    known = {curve.name: curve for curve in CURVES}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.curves", description=__doc__.split("\n")[0]
    )
    parser.add_argument("curves", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument(
        "--out", type=Path, default=records.folder(), help="folder of bench_curves_<device>.json"
    )
    args = parser.parse_args(argv)
    if unknown := set(args.curves) - set(known):
        parser.error(f"curves: {', '.join(sorted(unknown))} given; accepted are {', '.join(known)}")
    declare_operators_of_torchvision()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"bench_curves_{device.type}.json"
    curves = records.read(file)["curves"] if file.is_file() else {}
    for name in args.curves or known:
        curves[name] = measured = measure(known[name], device)
        print(
            f"{name:20} {measured['x']:10}",
            *(f"{p['x']:,}: {p['ms']:.3g} ms, {p['mb']:.3g} MB;" for p in measured["points"]),
        )
        print(
            f"{'':20} exponents of time {measured['exponents']['ms']}, of memory "
            f"{measured['exponents']['mb']}",
            flush=True,
        )
        records.write(
            file,
            {
                "curves": {name: curves[name] for name in known if name in curves},
                "environment": machine.environment(),
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
