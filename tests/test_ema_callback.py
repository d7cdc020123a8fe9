"""EMACallback in a plain ``transformers.Trainer``. Oracles: the average written out from the weights of each
step of a training without it; an uninterrupted run.
"""

import math
import warnings

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from tricks_lib.trainer import EMACallback

from .test_trainer import (  # noqa: F401 (fixtures)
    SGD,
    assert_close,
    assert_equal,
    data,
    few_objects_to_collect,
    make,
    same_environment,
    train,
    weights,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:decay. with:UserWarning")  # few steps, as in test_trainer

EACH = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


def plain(folder, callback, model=None, rows=None, callbacks=(), **arguments):
    return train(
        folder,
        model or make(masks=False),
        rows or data(),
        Trainer,
        callbacks=[callback, *callbacks] if callback else list(callbacks),
        **{**SGD, **arguments},
    )


class Watch(TrainerCallback):
    """The weights at the start and after each step, as training has them."""

    def __init__(self):
        self.steps = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.steps.append(weights(model))

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(weights(model))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The weights at the start and after each of six steps."""
    watch = Watch()
    plain(tmp_path_factory.mktemp("path"), None, callbacks=[watch], max_steps=6)
    return watch.steps


def averaged(path, decays):
    """One average of ``path[0]``, path[1], ... by the decay of each step; None takes none."""
    average = path[0]
    for step, decay in zip(path[1:], decays):
        if decay is not None:
            average = {name: decay * average[name] + (1 - decay) * step[name] for name in average}
    return average


def test_average_is_evaluated_and_saved_and_training_goes_on_with_the_weights(tmp_path, path):
    seen, model = [], make(masks=False)
    callback = EMACallback(0.8)
    trainer = plain(
        tmp_path,
        callback,
        model,
        eval_dataset=data(),
        compute_metrics=lambda _: seen.append(weights(model)) or {},
        **EACH,
    )
    for n in (1, 2, 3):
        expected = averaged(path[: n + 1], [0.8] * n)
        assert_close(seen[n - 1], expected, tolerance=1e-6)
        saved = weights_of(tmp_path / f"checkpoint-{n}")
        assert_equal({name: saved[name] for name in expected}, seen[n - 1])
    trainer.predict(data(n=4))
    assert_equal(weights(model), seen[2])  # after training too
    trainer.save_model(tmp_path / "final")
    assert_equal({name: weights_of(tmp_path / "final")[name] for name in seen[2]}, seen[2])
    callback.restore()
    assert_equal(weights(model), path[3])  # the average does not touch training
    callback.restore()  # again: nothing
    assert_equal(weights(model), path[3])


SETTINGS = {
    "decay": ({"decay": 0.5}, [0.5] * 6),
    "warmup": ({"decay": 0.9, "warmup": True}, [(1 + n) / (10 + n) for n in range(1, 7)]),
    "power": ({"decay": 0.9, "warmup": "power"}, [min(0.9, (1 - 1 / n) ** 7.94) for n in range(1, 7)]),
    "gamma": (
        {"decay": 0.9, "warmup": "power", "gamma": 1.0},
        [min(0.9, (1 - 1 / n) ** 2) for n in range(1, 7)],
    ),
    "update_every": ({"decay": 0.5, "update_every": 2}, [None, 0.5] * 3),
    "start_step": ({"decay": 0.5, "start_step": 2}, [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_average(tmp_path, path, name):
    settings, decays = SETTINGS[name]
    trainer = plain(tmp_path, EMACallback(**settings), max_steps=6)
    assert_close(weights(trainer.model), averaged(path, decays), path[6], tolerance=1e-6)


@pytest.mark.parametrize("buffers", [True, False])
def test_buffers_are_averaged_or_left(tmp_path, buffers):
    model = make(masks=False)
    model.register_buffer("count", torch.zeros(()))
    model.register_forward_hook(lambda module, *_: module.count.add_(1) and None)
    plain(tmp_path, EMACallback(0.5, buffers=buffers), model)
    assert model.count.item() == pytest.approx(0.5 * 3 + 0.25 * 2 + 0.125 if buffers else 3.0)


def test_device(tmp_path):
    callback = EMACallback(0.5, device="cpu")
    plain(tmp_path, callback)
    assert callback.average.ema.device == torch.device("cpu")


LONG = {
    "max_steps": 6,
    "learning_rate": 1e-2,
    "save_strategy": "steps",
    "save_steps": 2,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
}


def long_run(folder, callback=None, **more):
    """Six steps over two epochs with dropout and AdamW; a checkpoint each second step."""
    callback = callback or EMACallback(0.7, warmup=True)
    trainer = train(
        folder,
        make(masks=False, hidden_dropout_prob=0.2),
        data(),
        Trainer,
        callbacks=[callback],
        **{**LONG, **more},
    )
    average = weights(trainer.model)
    callback.restore()
    return trainer, average


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return long_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("how", ["argument", "callback", "folder"])
def test_resumes_bit_for_bit(tmp_path, uninterrupted, how):
    whole, average = uninterrupted
    checkpoint = f"{whole.args.output_dir}/checkpoint-2"
    folder, callback, arguments = tmp_path, EMACallback(0.7, warmup=True), {}
    if how == "argument":  # as the examples of transformers give it
        arguments = {"resume_from_checkpoint": checkpoint}
    elif how == "callback":
        callback = EMACallback(0.7, warmup=True, resume_from_checkpoint=checkpoint)
    else:
        folder, arguments = whole.args.output_dir, {"save_strategy": "no"}
    resumed, resumed_average = long_run(folder, callback, resume=checkpoint, **arguments)
    assert_equal(weights(resumed.model), weights(whole.model))
    assert_equal(resumed_average, average)


def test_checkpoint_that_is_not_the_one_loaded_is_an_error(tmp_path, uninterrupted):
    folder = uninterrupted[0].args.output_dir
    callback = EMACallback(0.7, resume_from_checkpoint=f"{folder}/checkpoint-4")
    with pytest.raises(ValueError, match="^resume_from_checkpoint: .*another checkpoint.* accepted"):
        long_run(tmp_path, callback, resume=f"{folder}/checkpoint-2")


def test_checkpoint_without_average_is_an_error(tmp_path):
    plain(tmp_path, None, save_strategy="steps", save_steps=2)
    with pytest.raises(ValueError, match="^resume_from_checkpoint: .*without an average.* accepted"):
        plain(tmp_path, EMACallback(0.9), resume=True)


def test_checkpoint_for_the_model_alone_has_no_training_state(tmp_path):
    plain(tmp_path, EMACallback(0.9), save_strategy="steps", save_steps=3, save_only_model=True)
    assert not (tmp_path / "checkpoint-3" / "tricks.pt").exists()


def test_best_model_at_the_end_is_the_best_average(tmp_path):
    losses, callback = iter([0.5, 0.1, 0.9]), EMACallback(0.8)
    trainer = plain(
        tmp_path,
        callback,
        eval_dataset=data(n=4),
        compute_metrics=lambda _: {"error": next(losses, 0.3)},
        load_best_model_at_end=True,
        metric_for_best_model="error",
        greater_is_better=False,
        **EACH,
    )
    best, model = weights_of(tmp_path / "checkpoint-2"), weights(trainer.model)
    assert_equal({name: best[name] for name in model}, model)
    callback.restore()
    assert_equal(weights(trainer.model), model)


def test_second_training_goes_on_with_the_trained_weights_unless_others_were_loaded(tmp_path, path):
    model, watch = make(masks=False), Watch()
    trainer = plain(tmp_path, EMACallback(0.5), model, callbacks=[watch])
    trainer.train()
    model.load_state_dict(make(masks=False).state_dict())
    trainer.train()
    assert_equal(watch.steps[4], path[3])
    assert_equal(watch.steps[8], path[0])


def test_evaluation_on_start_of_a_resumed_run_sees_the_average(tmp_path, uninterrupted):
    folder, seen = uninterrupted[0].args.output_dir, []
    model = make(masks=False, hidden_dropout_prob=0.2)
    train(
        tmp_path,
        model,
        data(),
        Trainer,
        callbacks=[EMACallback(0.7, warmup=True, resume_from_checkpoint=f"{folder}/checkpoint-2")],
        resume=f"{folder}/checkpoint-2",
        eval_dataset=data(n=4),
        compute_metrics=lambda _: seen.append(weights(model)) or {},
        **{**LONG, "save_strategy": "no", "eval_strategy": "no", "eval_on_start": True},
    )
    saved = weights_of(f"{folder}/checkpoint-2")
    assert_equal(seen[0], {name: saved[name] for name in seen[0]})


class Asks(TrainerCallback):
    def __init__(self, what):
        self.what = what

    def on_step_end(self, args, state, control, **kwargs):
        setattr(control, f"should_{self.what}", True)


@pytest.mark.parametrize("what", ["evaluate", "save"])
def test_callback_behind_that_asks_for_more_is_warned_of(tmp_path, what):
    with pytest.warns(UserWarning, match="^EMACallback: .*without the average"):
        plain(tmp_path, EMACallback(0.5), callbacks=[Asks(what)], eval_dataset=data(n=4))


@pytest.mark.parametrize("what", ["evaluate", "save"])
def test_callback_before_that_asks_for_more_sees_the_average(tmp_path, what):
    train(
        tmp_path,
        make(masks=False),
        data(),
        Trainer,
        callbacks=[Asks(what), EMACallback(0.5)],
        eval_dataset=data(n=4),
        **SGD,
    )


def test_step_that_the_scaler_skips_moves_no_average(tmp_path):
    model, callback = make(masks=False), EMACallback(0.5)
    model.classifier.weight.data *= 1000
    plain(tmp_path, callback, model, scale=2.0**127, max_steps=2)
    assert callback.average.ema.num_updates == 0


@pytest.mark.parametrize("steps, decay, share", [(3, 0.5, "12.5%"), (6, 0.9, "53.1%")])
def test_average_of_a_short_run_is_warned_of_with_a_decay_that_fits(tmp_path, steps, decay, share):
    with pytest.warns(UserWarning, match=f"^decay: with {decay} .*{share} of the average") as caught:
        plain(tmp_path, EMACallback(decay), max_steps=steps)
    (fitting,) = [w.message.args[0].split("; ")[1].split(" ")[0] for w in caught]
    assert float(fitting) == pytest.approx(steps / (steps + 10), abs=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain(tmp_path, EMACallback(float(fitting)), max_steps=steps)
        plain(tmp_path, EMACallback(decay, warmup="power"), max_steps=steps)
        plain(tmp_path, EMACallback(decay, start_step=steps), max_steps=steps)


def test_the_decay_that_fits_leaves_the_start_less_than_a_percent():
    assert max((n / (n + 10)) ** n for n in range(4, 2000)) < 0.01 < (3 / 13) ** 3
    assert pytest.approx(math.exp(-10), rel=0.01) == (10_000 / 10_010) ** 10_000


def test_weights_split_by_fsdp_are_an_error(tmp_path):
    class FullyShardedDataParallel(nn.Module):
        pass

    model = make(masks=False)
    model.inner = FullyShardedDataParallel()
    with pytest.raises(ValueError, match="^model: .*FSDP.* accepted"):
        plain(tmp_path, EMACallback(0.5), model)


def test_weights_emptied_by_zero_3_are_an_error(tmp_path):
    callback, model = EMACallback(0.5), make(masks=False)
    empty = nn.Parameter(torch.empty(0))
    empty.ds_shape = torch.Size([3])
    model.classifier.bias = empty
    with pytest.raises(ValueError, match="^model: .*ZeRO-3.* accepted"):
        callback.on_train_begin(None, None, None, model=model)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"decay": 1.0}, ValueError),
        ({"decay": "0.9"}, TypeError),
        ({"warmup": "cosine"}, ValueError),
        ({"update_every": 0}, ValueError),
        ({"start_step": -1}, ValueError),
        ({"gamma": 2.0}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match=f"^{next(iter(arguments))}: .* accepted"):
        EMACallback(**arguments)
