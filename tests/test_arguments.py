"""Every argument of every public class changes a result: a class whose ``forward`` forgets one is found here.

For each class stands one probe, what can be seen of an object made with given arguments, and for each
argument two values with which the probe must differ. A class or an argument without a row is a failure that
says what to add. That the results are the right ones is tested beside each module's other tests.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

MODULES = (
    "mean_pooling", "rdrop", "last_four", "layer_decay", "xlnet_long_text", "ema", "dice_loss", "focal_loss",
    "fgm", "decoding", "mse_corr_loss",
)  # fmt: skip

generator = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=generator, dtype=torch.float64)
CLASSES = torch.tensor([0, 1, 2, 1, 0, 2])  # class 3 is absent
MULTI = (torch.rand(6, 4, generator=generator) < 0.5).long()
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11, 12, 2], [1, 13, 14, 15, 2, 0, 0, 0, 0, 0]])
MASK = (IDS != 0).long()


class Lazy(NamedTuple):
    """A value that is made where it is needed: models are changed by what is done to them."""

    make: Callable[[], Any]


class Rows(NamedTuple):
    """``probe`` of a function that makes the object; ``needed``: arguments without a default; ``pairs``: for
    each argument two values; ``beside``: for an argument, others that it needs to show.
    """

    probe: Callable[[Callable[[], Any]], Any]
    pairs: dict[str, tuple[Any, Any]]
    needed: dict[str, Any] = {}
    beside: dict[str, dict[str, Any]] = {}


# Encoders and what is seen of classifiers


def encoder(kind, seed):
    torch.manual_seed(seed)
    if kind == "bert":
        sizes = {"hidden_size": 8, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 8}
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertModel(BertConfig(vocab_size=20, initializer_range=0.5, **sizes, **off))
    sizes = {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 8, "mem_len": 4}
    return XLNetModel(XLNetConfig(vocab_size=20, initializer_range=0.5, dropout=0.0, **sizes))


def encoders(kind):
    return Lazy(lambda: encoder(kind, 0)), Lazy(lambda: encoder(kind, 1))


def logits_of(make):
    """The logits, and how many sequences the encoder saw at once, as what only bounds memory changes no
    logit.
    """
    torch.manual_seed(0)
    model, seen = make(), []
    model.encoder.register_forward_hook(lambda module, args, output: seen.append(len(output[0])))
    torch.manual_seed(1)
    results = [model.train()(input_ids=IDS, attention_mask=MASK).logits]
    with torch.no_grad():
        results.append(model.eval()(input_ids=IDS, attention_mask=MASK).logits)
    return *results, torch.tensor(seen)


def weighted_layers(make):
    layers = torch.randn(6, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    return make()([*layers])


# Averages and attacks


class Small(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens, self.types = nn.Embedding(20, 4), nn.Embedding(2, 4)
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def get_input_embeddings(self):
        return self.tokens

    def forward(self, input_ids):
        return self.head(torch.tanh(self.norm((self.tokens(input_ids) + self.types(input_ids % 2)).mean(1))))


SMALL = Lazy(Small), Lazy(lambda: Small(seed=1))


def state(model):
    return tuple(v.detach().clone() for v in model.state_dict().values())


def averages_of(make):
    ema = make()
    model = ema.model
    for _ in range(3):
        with torch.no_grad():
            for value in (*model.parameters(), model.norm.running_mean):
                value.add_(1.0)
        ema.update()
    where = torch.tensor([v.is_cuda for v in ema.state_dict()["shadow"].values()])
    with ema.average_parameters():
        return where, *state(model)


def attacked_by(make):
    """The logits and the weights under the attack, of PGD under two steps."""
    torch.manual_seed(0)
    attack = make()
    model, seen = attack.model.eval(), []
    for _ in range(2 if type(attack).__name__ == "PGD" else 1):
        model.zero_grad()
        F.cross_entropy(model(IDS), torch.tensor([0, 2])).backward()
        attack.attack()
        with torch.no_grad():
            seen += [model(IDS), *state(model)]
    attack.restore()
    return tuple(seen)


def trained_by(make):
    """The gradients that the passes of a step leave."""
    freelb = make()
    model = freelb.model.eval()
    for _ in freelb.passes():
        F.cross_entropy(model(IDS), torch.tensor([0, 2])).backward()
    return tuple(p.grad for p in model.parameters())


def cuda_or_skip():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


def loss_of(labels):
    return lambda make: make()(LOGITS, labels)


SHARED = {"model": SMALL, "target": (None, "types"), "epsilon": (0.1, 1.0)}
OF_LOOK_UPS = {**SHARED, "per_example": (False, True), "relative": (False, True)}
HEAD_BIAS = {"head_bias": (0.0, -2.0)}
OF_DICE = {
    "smooth": (0.5, 2.0),
    "reduction": ("macro", "micro"),
    "activation": ("softmax", "sigmoid"),
    "weight": (None, torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "ignore_index": (-100, 0),
    "ignore_empty": (False, True),
}
TABLE = {
    "BinaryFocalLoss": Rows(
        loss_of(MULTI),
        {
            "gamma": (0.0, 2.0),
            "alpha": (None, 0.25),
            "reduction": ("mean", "sum"),
            "ignore_index": (-100, 0),
            "pos_weight": (None, 3.0),
        },
    ),
    "FocalLoss": Rows(
        loss_of(CLASSES),
        {
            "gamma": (0.0, 2.0),
            "weight": (None, torch.tensor([1.0, 2.0, 3.0, 4.0])),
            "ignore_index": (-100, 0),
            "label_smoothing": (0.0, 0.1),
            "reduction": ("mean", "none"),
        },
    ),
    "DiceLoss": Rows(loss_of(CLASSES), OF_DICE),
    "TverskyLoss": Rows(loss_of(CLASSES), {"alpha": (0.3, 0.6), "beta": (0.7, 0.4), **OF_DICE}),
    "SelfAdjustingDiceLoss": Rows(
        loss_of(CLASSES),
        {
            "alpha": (0.01, 1.0),
            "smooth": (0.5, 2.0),
            "reduction": ("mean", "sum"),
            "activation": ("softmax", "sigmoid"),
            "ignore_index": (-100, 0),
        },
    ),
    "MSECorrLoss": Rows(lambda make: make()(LOGITS, MULTI), {"p": (0.0, 1.5)}),
    "CCCLoss": Rows(lambda make: make()(LOGITS, MULTI), {}),
    "RDropOutput": Rows(
        lambda make: tuple(make()),
        {"loss": (torch.zeros(()), torch.ones(())), "logits": (LOGITS, 2 * LOGITS)},
        needed={"loss": torch.zeros(()), "logits": LOGITS},
    ),
    "MeanPoolingClassifier": Rows(
        logits_of,
        {
            "encoder": encoders("bert"),
            "num_labels": (2, 3),
            "dropout": (0.0, 0.9),
            "pool": ("mean", "cls"),
            **HEAD_BIAS,
        },
        needed={"encoder": encoders("bert")[0], "num_labels": 2},
    ),
    "LastFourClassifier": Rows(
        logits_of,
        {
            "encoder": encoders("bert"),
            "num_labels": (2, 3),
            "pool": ("cls", "mean"),
            "num_layers": (2, 4),
            "dropout": (0.0, 0.9),
            **HEAD_BIAS,
        },
        needed={"encoder": encoders("bert")[0], "num_labels": 2},
    ),
    "WeightedLayerPool": Rows(weighted_layers, {"num_layers": (2, 4), "layer_norm": (False, True)}),
    "XLNetLongClassifier": Rows(
        logits_of,
        {
            "encoder": encoders("xlnet"),
            "num_labels": (2, 3),
            "segment_length": (4, 8),
            "mem_len": (None, 0),
            "pool": ("mean", "max"),
            "dropout": (0.0, 0.9),
            **HEAD_BIAS,
        },
        needed={"encoder": encoders("xlnet")[0], "num_labels": 2},
        beside={"mem_len": {"segment_length": 4}},
    ),
    "SlidingWindowClassifier": Rows(
        logits_of,
        {
            "encoder": encoders("bert"),
            "num_labels": (2, 3),
            "window_length": (5, 7),
            "stride": (1, 3),
            "pool": ("mean", "max"),
            "windows_at_once": (2, 32),
            "dropout": (0.0, 0.9),
            **HEAD_BIAS,
        },
        needed={"encoder": encoders("bert")[0], "num_labels": 2},
        beside={name: {"window_length": 6} for name in ("stride", "pool", "windows_at_once")},
    ),
    "EMA": Rows(
        averages_of,
        {
            "model": SMALL,
            "decay": (0.5, 0.9),
            "warmup": (False, "power"),
            "buffers": (True, False),
            "update_every": (1, 2),
            "start_step": (0, 1),
            "device": (None, Lazy(cuda_or_skip)),
            "gamma": (6.94, 16.97),
        },
        needed={"model": SMALL[0]},
        beside={"gamma": {"warmup": "power"}},
    ),
    "FGM": Rows(attacked_by, OF_LOOK_UPS, needed={"model": SMALL[0]}),
    "RandomDirection": Rows(attacked_by, OF_LOOK_UPS, needed={"model": SMALL[0]}),
    "PGD": Rows(attacked_by, {**OF_LOOK_UPS, "alpha": (0.05, 0.3)}, needed={"model": SMALL[0]}),
    "FreeLB": Rows(
        trained_by,
        {**OF_LOOK_UPS, "alpha": (0.05, 0.3), "steps": (2, 3)},
        needed={"model": SMALL[0]},
        beside={"epsilon": {"alpha": 0.8}},
    ),
    "AWP": Rows(
        attacked_by,
        {**SHARED, "target": ("tokens", "head.weight"), "epsilon": (0.005, 0.1)},
        needed={"model": SMALL[0]},
    ),
}


@functools.cache
def public_classes():
    """Those that are made by a call: a TypedDict only names the arguments of functions."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"tricks_lib.{name}")
        public = (getattr(module, item) for item in module.__all__)
        found |= {c.__name__: c for c in public if inspect.isclass(c) and not issubclass(c, dict)}
    return found


def arguments(cls):
    return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]


def result(cls, argument, value):
    rows = TABLE[cls.__name__]
    given = {**rows.needed, **rows.beside.get(argument, {}), argument: value}
    made = lambda: cls(**{k: v.make() if isinstance(v, Lazy) else v for k, v in given.items()})
    found = rows.probe(made)
    return [found] if isinstance(found, torch.Tensor) else [*found]


def same(one, other):
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other)
    )


@pytest.mark.parametrize("name", sorted(public_classes().keys() | TABLE.keys()))
def test_every_argument_of_every_public_class_has_a_row(name):
    assert name in TABLE, f"TABLE: add Rows for {name}, with two values for each of its arguments"
    assert name in public_classes(), f"TABLE: {name} is no public class any more; take its Rows out"
    theirs, ours = set(arguments(public_classes()[name])), TABLE[name].pairs.keys()
    missing, extra = sorted(theirs - ours), sorted(ours - theirs)
    assert not missing, f"TABLE[{name!r}].pairs: add two values that differ in the probe for {missing}"
    assert not extra, f"TABLE[{name!r}].pairs: {extra} are no arguments of {name}; take them out"


@pytest.mark.parametrize(
    "name, argument", [(name, argument) for name in TABLE for argument in TABLE[name].pairs]
)
def test_argument_changes_a_result(name, argument):
    cls, (one, other) = public_classes()[name], TABLE[name].pairs[argument]
    first = result(cls, argument, one)
    assert same(first, result(cls, argument, one)), f"the probe of {name} differs by chance"
    assert not same(first, result(cls, argument, other)), f"{name}: {argument} changes nothing"


NUMBERS = [
    (name, argument, value)
    for name, rows in TABLE.items()
    for argument, pair in rows.pairs.items()
    for value in pair
    if isinstance(value, (int, float)) and not isinstance(value, bool)
]


@pytest.mark.parametrize("name, argument, value", NUMBERS)
def test_numbers_of_numpy_are_numbers(name, argument, value):
    cls = public_classes()[name]
    for kind in (np.int64, np.int32) if isinstance(value, int) else (np.float64, np.float32, np.float16):
        given = kind(value)
        assert same(result(cls, argument, given), result(cls, argument, given.item())), kind


LOSSES = [name for name in TABLE if name.endswith("Loss")]


@pytest.mark.parametrize(
    "name, argument", [(name, argument) for name in LOSSES for argument in TABLE[name].pairs]
)
def test_a_loss_that_forgets_an_argument_is_found(name, argument, monkeypatch):
    cls, (one, other) = public_classes()[name], TABLE[name].pairs[argument]
    forward, default = cls.forward, inspect.signature(cls).parameters[argument].default

    def forgetful(self, *inputs):
        setattr(self, argument, default)
        return forward(self, *inputs)

    monkeypatch.setattr(cls, "forward", forgetful)
    assert same(result(cls, argument, one), result(cls, argument, other))
