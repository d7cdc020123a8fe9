"""Two processes (gloo) against one with both halves of each batch: the trainer itself on whole batches is
checked in test_trainer.py.
"""

import gc
import io
import os
import warnings
from contextlib import redirect_stdout

import pytest
import torch

from tricks_lib._batch_loss import Gather
from tricks_lib.trainer import TricksArguments, TricksTrainer

from . import ranks
from . import test_causal_training as causal_training
from .test_trainer import (
    QUIET,
    SGD,
    assert_close,
    assert_equal,
    data,
    make,
    pad,
    weights,
)  # noqa: F401 (a fixture)

# name: (kind of rows, arguments); each process has 4 rows a step, the one process 8
CASES = {
    "cross-entropy": ("tokens", {}),
    "cross-entropy, accumulated": ("tokens", {"gradient_accumulation_steps": 2}),
    "focal with class weights": ("tokens", {"loss": "focal", "loss_kwargs": {"weight": [1.0, 3.0, 0.5]}}),
    "dice, tokens": ("tokens", {"loss": "dice"}),  # the halves differ in length
    "mse_corr": ("numbers", {"loss": "mse_corr"}),
    "ccc": ("numbers", {"loss": "ccc"}),
    "R-Drop": ("classes", {"rdrop_alpha": 1.5}),
    "FGM": ("classes", {"adversarial": "fgm"}),
    "PGD": ("classes", {"adversarial": "pgd"}),
    "AWP": ("classes", {"adversarial": "awp"}),
    "clipping": ("tokens", {"max_grad_norm": 0.05}),
    "all": (
        "tokens",
        {"loss": "dice", "rdrop_alpha": 1.5, "adversarial": "fgm", "ema_decay": 0.8, "layer_decay": 0.5},
    ),
    "all for numbers": (
        "numbers",
        {
            "loss": "ccc",
            "rdrop_alpha": 1.5,
            "adversarial": "awp",
            "ema_decay": 0.8,
            "head_learning_rate": 0.02,
        },
    ),
    "FGM, accumulated": (
        "classes",
        {"adversarial": "fgm", "gradient_accumulation_steps": 2},
    ),  # a micro-batch of both is the one's
}
CASES |= {
    "weighted": ("tokens", {"loss": "weighted", "gradient_accumulation_steps": 2}),
    "dice plus cross-entropy": ("tokens", {"loss": "dice_ce"}),
    "FGM, relative": ("classes", {"adversarial": "fgm", "adversarial_relative": True}),
    "FreeLB": ("classes", {"adversarial": "freelb"}),
    "FreeLB, accumulated": ("classes", {"adversarial": "freelb", "gradient_accumulation_steps": 2}),
    "several labels": ("multi", {"rdrop_alpha": 1.5}),
    "average with a warm-up": ("classes", {"ema_decay": 0.8, "ema_warmup": "power"}),
}
CAUSAL = {"own": {}, "focal": {"loss": "focal"}}
APART = {"dice, tokens": ("tokens", "dice"), "ccc": ("numbers", "ccc")}  # without gathering


def run(folder, kind, batch, resume=None, **arguments):
    warnings.filterwarnings("ignore", "adversarial '(fgm|freelb)'|ema_decay: with", UserWarning)
    args = TricksArguments(
        str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        ddp_find_unused_parameters=False,
        **{**QUIET, **SGD, "max_steps": 2, **arguments},
    )
    model, rows = make(kind), data(kind, n=32)
    model.dropout.which = "both" if args.rdrop_alpha else 0
    trainer = TricksTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=data(kind, n=8), data_collator=pad
    )
    with redirect_stdout(io.StringIO()):
        trainer.train(resume_from_checkpoint=resume)
        metrics = trainer.evaluate() if args.ema_decay else {}
    with trainer.average_parameters():
        average = weights(model)
    logs = [
        {k: v for k, v in log.items() if k.startswith("loss")}
        for log in trainer.state.log_history
        if "loss" in log
    ]
    return {
        "trained": weights(model),
        "average": average,
        "logs": logs,
        "eval_loss": metrics.get("eval_loss"),
    }


def on_rank(rank):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="0",
        ACCELERATE_USE_CPU="true",
    )
    gc.freeze()  # see few_objects_to_collect
    folder = os.environ["FOLDER_OF_RANKS"]
    results = {
        name: run(f"{folder}/{i}", kind, 4, **arguments)
        for i, (name, (kind, arguments)) in enumerate(CASES.items())
    }
    results |= {
        f"{name} apart": run(f"{folder}/apart", kind, 4, loss=loss, gather_batch_losses=False)
        for name, (kind, loss) in APART.items()
    }
    long = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "ema_decay": 0.8, "loss": "dice"}
    results["whole"] = run(f"{folder}/long", "classes", 4, **long)
    results["resumed"] = run(f"{folder}/resumed", "classes", 4, resume=f"{folder}/long/checkpoint-2", **long)
    results["gathered"] = gathered(rank)
    results |= {
        f"causal {name}": causal(f"{folder}/causal", 4, micro=2, **arguments)
        for name, arguments in CAUSAL.items()
    }
    return results


def causal(folder, batch, **arguments):
    """A causal language model whose class does not say what it is: its weights, and the first loss."""
    trainer = causal_training.trained(
        folder,
        causal_training.model_of("subclass"),
        TricksTrainer,
        batch,
        causal_training.rows(16, left=True),
        ddp_find_unused_parameters=False,
        **{"max_steps": 2, **arguments},
    )
    return {"trained": weights(trainer.model), "loss": trainer.state.log_history[0]["loss"]}


def gathered(rank):
    """Rows of two processes, 2 and 3, and the gradient of a function of all of them."""
    rows = torch.arange(5.0).view(5, 1)[[slice(0, 2), slice(2, 5)][rank]].requires_grad_()
    every = Gather.apply(rows)
    every.square().sum().square().backward()
    return {"every": every.detach(), "gradient": rows.grad}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLDER_OF_RANKS", str(folder))
        patch.setattr(ranks, "LIMIT", 400)  # each imports transformers, which takes a busy machine a minute
        return ranks.run_ranks(on_rank, 2, folder)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(tmp_path, two, name):
    kind, arguments = CASES[name]
    one = run(tmp_path, kind, 8, **arguments)
    for rank in two:
        assert_close(rank[name]["trained"], one["trained"], weights(make(kind)))
        assert_close(rank[name]["average"], one["average"])
        for ours, theirs in zip(rank[name]["logs"], one["logs"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_same_weights_and_average(two, name):
    for key in ("trained", "average"):
        assert_equal(two[0][name][key], two[1][name][key])
    assert two[0][name]["eval_loss"] == two[1][name]["eval_loss"]  # of the average, where there is one


@pytest.mark.parametrize("name", CAUSAL)
def test_two_processes_with_two_micro_batches_equal_one_batch_of_a_causal_model(tmp_path, two, name):
    one = causal(tmp_path, 8, **CAUSAL[name])
    start = weights(causal_training.model_of("subclass"))
    for rank in two:
        assert_close(rank[f"causal {name}"]["trained"], one["trained"], start)
        assert rank[f"causal {name}"]["loss"] == pytest.approx(one["loss"], rel=1e-3)


@pytest.mark.parametrize("name", APART)
def test_without_gathering_each_process_sees_its_own_half(two, name):
    """The mean of the halves' losses, which is not the loss of the whole."""
    apart, whole = two[0][f"{name} apart"], two[0][name]
    assert apart["logs"][0]["loss"] != pytest.approx(whole["logs"][0]["loss"], rel=1e-3)
    assert_equal(apart["trained"], two[1][f"{name} apart"]["trained"])


def test_resumed_on_two_processes(two):
    for rank in two:
        for key in ("trained", "average"):
            assert_equal(rank["resumed"][key], rank["whole"][key])


def test_gathered_rows_of_unequal_number_and_their_gradient(two):
    every = torch.arange(5.0).view(5, 1)
    gradient = 4 * every * every.square().sum()  # d (sum x^2)^2 / dx
    for rank, own in ((0, slice(0, 2)), (1, slice(2, 5))):
        assert torch.equal(two[rank]["gathered"]["every"], every)
        assert torch.equal(
            two[rank]["gathered"]["gradient"], 2 * gradient[own]
        )  # the processes' gradients will be averaged
