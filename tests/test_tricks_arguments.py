"""The fields of ``TricksArguments`` that ``test_trainer`` does not pair: each changes a result, the one it
says. Oracles: formulas written out, torch, :mod:`tricks_lib.fgm` in a plain loop.
"""

import doctest
import json
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    HfArgumentParser,
    TrainerCallback,
)

from tricks_lib import fgm
from tricks_lib.last_four import LastFourClassifier
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.trainer import TricksArguments, TricksTrainer, arguments, ema_callback

from .test_ema_callback import Watch, averaged
from .test_trainer import (  # noqa: F401 (two fixtures)
    LABELS,
    QUIET,
    SGD,
    SIZES,
    Masks,
    assert_close,
    assert_equal,
    data,
    dice,
    few_objects_to_collect,
    loop,
    make,
    own,
    pad,
    same_environment,
    train,
    weights,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:ema_decay. with:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft
]


@pytest.mark.parametrize("module", [arguments, ema_callback], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


# ---- Losses


def counted(rows):
    """n / (C n_c) of all labels of the rows."""
    labels = torch.cat([row["labels"].reshape(-1) for row in rows])
    labels = labels[labels != -100]
    return len(labels) / (3 * labels.bincount(minlength=3).clamp(min=1))


def rare(kind, n=24):
    """Rows without the last class, and with few of the second."""
    rows = data(kind, n)
    for i, row in enumerate(rows):
        few = (row["labels"] > 0) & (row["labels"] != -100)
        row["labels"] = torch.where(few, int(i % 4 == 0), row["labels"])
    return rows


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("kind", ["classes", "tokens"])
def test_weighted_counts_the_classes_of_the_training_set(tmp_path, kind, micro):
    rows = rare(kind)
    trainer = train(
        tmp_path,
        make(kind),
        rows,
        loss="weighted",
        per_device_train_batch_size=8 // micro,
        gradient_accumulation_steps=micro,
        **SGD,
    )
    expected, _, _ = loop(
        make(kind),
        trainer.data_collator.batches(3, micro),
        loss=lambda x, y: F.cross_entropy(x, y, weight=counted(rows)),
    )
    assert_close(weights(trainer.model), expected, weights(make(kind)))
    plain, _, _ = loop(make(kind), trainer.data_collator.batches(3, micro))
    assert max((plain[name] - expected[name]).abs().max() for name in plain) > 1e-3


def test_weighted_takes_a_weight_and_label_smoothing(tmp_path):
    weight = torch.tensor([1.0, 3.0, 0.5])
    trainer = train(
        tmp_path,
        make(),
        data(),
        loss="weighted",
        loss_kwargs={"weight": weight, "label_smoothing": 0.1},
        **SGD,
    )
    expected, _, _ = loop(
        make(),
        trainer.data_collator.batches(3),
        loss=lambda x, y: F.cross_entropy(x, y, weight=weight, label_smoothing=0.1),
    )
    assert_close(weights(trainer.model), expected, weights(make()))


@pytest.mark.parametrize("rdrop_alpha", [0.0, 1.5])
def test_soft_labels_under_accumulation(tmp_path, rdrop_alpha):
    """A mean over examples, also with class weights; R-Drop compares the softmax."""
    g, weight = torch.Generator().manual_seed(1), torch.tensor([1.0, 3.0, 0.5])
    rows = [{**row, "labels": torch.rand(3, generator=g).softmax(-1)} for row in data()]
    trainer = train(
        tmp_path,
        make(),
        rows,
        loss="focal",
        loss_kwargs={"gamma": 0.0, "weight": weight},
        rdrop_alpha=rdrop_alpha,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        **SGD,
    )
    model = make()
    for batch in trainer.data_collator.batches(3, 4):
        inputs, passes = {k: v for k, v in batch.items() if k != "labels"}, []
        for which in (0, 1) if rdrop_alpha else (0,):
            model.dropout.which = which
            passes.append(model(**inputs).logits.log_softmax(-1))
        value = sum(-(weight * batch["labels"] * x).sum(-1).mean() for x in passes) / len(passes)
        p, q = passes[0], passes[-1]
        value = value + rdrop_alpha * 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()
        grads = torch.autograd.grad(value, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads):
                p -= 0.05 * g
    assert_close(weights(trainer.model), weights(model), weights(make()))


def test_weighted_reads_the_column_of_a_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = rare("classes")
    table = datasets.Dataset.from_dict(
        {
            "input_ids": [row["input_ids"][:4].tolist() for row in rows],
            "label": [int(r["labels"]) for r in rows],
        }
    )
    args = TricksArguments(str(tmp_path), loss="weighted", **QUIET, **SGD)
    trainer = TricksTrainer(model=make(masks=False), args=args, train_dataset=table)
    trainer.train()
    torch.testing.assert_close(trainer._loss.weight, counted(rows) * 3 / 2, rtol=0.6, atol=0)
    ratio = trainer._loss.weight / trainer._loss.weight[0]
    torch.testing.assert_close(ratio, counted(rows) / counted(rows)[0])  # a common factor changes nothing


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(data())


@pytest.mark.parametrize(
    "rows, said",
    [
        (Stream(), "a length"),
        ([{"input_ids": row["input_ids"]} for row in data()], "labels are accepted"),
        (data("numbers"), "class indices"),
        (None, "a length"),
    ],
    ids=["stream", "no labels", "numbers", "none"],
)
def test_weighted_without_classes_to_count_is_an_error(tmp_path, rows, said):
    args = TricksArguments(str(tmp_path), loss="weighted", **QUIET, **SGD)
    trainer = TricksTrainer(
        model=make(), args=args, train_dataset=rows, data_collator=lambda rows: pad(data(n=len(rows)))
    )
    with pytest.raises(ValueError, match=f"^train_dataset: .*{said}"):
        trainer.evaluate(data(n=4)) if rows is None else trainer.train()


@pytest.mark.parametrize("kind", ["classes", "tokens"])
def test_dice_ce_is_the_sum(tmp_path, kind):
    trainer = train(tmp_path, make(kind), data(kind), loss="dice_ce", loss_kwargs={"smooth": 0.5}, **SGD)
    expected, _, logs = loop(
        make(kind), trainer.data_collator.batches(3), loss=lambda x, y: own(x, y) + dice(x, y, 0.5)
    )
    assert_close(weights(trainer.model), expected, weights(make(kind)))
    assert trainer.state.log_history[0]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "loss, kwargs",
    [
        ("dice_ce", {"activation": "sigmoid"}),
        ("weighted", {"gamma": 1.0}),
        ("weighted", {"weight": [-1.0, 1.0]}),
    ],
)
def test_bad_arguments_of_the_new_losses(tmp_path, loss, kwargs):
    with pytest.raises((TypeError, ValueError), match="^loss_kwargs: .* accepted"):
        TricksArguments(str(tmp_path), loss=loss, loss_kwargs=kwargs, **QUIET)


@pytest.mark.parametrize(
    "weight", [torch.tensor([1.0, 3.0, 0.5]), torch.tensor([1, 3, 2]).numpy()], ids=["torch", "numpy"]
)
def test_tensors_in_loss_kwargs_are_written_as_lists(tmp_path, weight):
    args = TricksArguments(str(tmp_path), loss="focal", loss_kwargs={"weight": weight}, **QUIET)
    assert json.loads(args.to_json_string())["loss_kwargs"] == {"weight": weight.tolist()}
    assert args.loss_kwargs == {"weight": weight.tolist()}


# ---- Attacks


ATTACKS = {
    "random": ({"adversarial": "random"}, lambda m: fgm.RandomDirection(m, 1.0)),
    "random, relative": (
        {"adversarial": "random", "adversarial_relative": True, "adversarial_epsilon": 0.3},
        lambda m: fgm.RandomDirection(m, 0.3, relative=True),
    ),
    "FGM per example": (
        {"adversarial": "fgm", "adversarial_per_example": True, "adversarial_epsilon": 0.5},
        lambda m: fgm.FGM(m, 0.5, per_example=True),
    ),
    "FGM relative": (
        {"adversarial": "fgm", "adversarial_relative": True},
        lambda m: fgm.FGM(m, 0.05, relative=True),
    ),
    "PGD per example, relative": (
        {"adversarial": "pgd", "adversarial_per_example": True, "adversarial_relative": True},
        lambda m: fgm.PGD(m, 0.05, per_example=True, relative=True, alpha=0.015),
    ),
    "FreeLB": (
        {"adversarial": "freelb", "adversarial_epsilon": 2.0},
        lambda m: fgm.FreeLB(m, 2.0, per_example=False, alpha=0.6, steps=3),
    ),
    "FreeLB per example": (
        {"adversarial": "freelb", "adversarial_per_example": True},
        lambda m: fgm.FreeLB(m, 1.0, per_example=True, alpha=0.3, steps=3),
    ),
}


def attacked_by_hand(model, batches, made):
    """SGD, and the losses of the first and the last pass of each step."""
    attack, logs = made(model.train()), []
    for batch in batches:
        model.zero_grad()
        losses = []

        def one_pass():
            losses.append(model(**batch).loss)
            losses[-1].backward()

        if isinstance(attack, fgm.FreeLB):
            for _ in attack.passes():
                one_pass()
        else:
            one_pass()
            for _ in range(3 if isinstance(attack, fgm.PGD) else 1):
                attack.attack()
                one_pass()
            attack.restore()
        logs.append({"loss": losses[0].item(), "loss_adversarial": losses[-1].item()})
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * p.grad
    return weights(model), logs


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_by_name(tmp_path, name):
    arguments, made = ATTACKS[name]
    torch.manual_seed(5)
    trainer = train(tmp_path, make(), data(), callbacks=[Seeds()], **SGD, **arguments)
    torch.manual_seed(7)
    expected, logs = attacked_by_hand(make(), trainer.data_collator.batches(3), lambda m: seeded(made, m))
    assert_close(weights(trainer.model), expected, weights(make()))
    for shown, log in zip(trainer.state.log_history, logs):
        assert {k: v for k, v in shown.items() if k in log} == pytest.approx(log, rel=1e-3)
    plain, _, _ = loop(make(), trainer.data_collator.batches(3))
    assert max((plain[n] - expected[n]).abs().max() for n in plain) > 1e-4


class Seeds(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            torch.manual_seed(7)


def seeded(made, model):
    attack = made(model)
    torch.manual_seed(7)
    return attack


def test_random_is_the_control_of_fgm(tmp_path):
    """As far away, on the rows of the batch, and in another direction; twice the passes."""
    moves = {}
    for name in ("fgm", "random"):
        model, seen = make(masks=False), []
        table = model.bert.embeddings.word_embeddings.weight
        clean = table.detach().clone()
        model.register_forward_pre_hook(lambda *_: seen.append(table.detach() - clean))
        train(tmp_path, model, data(), adversarial=name, **{**SGD, "max_steps": 1})
        assert len(seen) == 2 and not seen[0].any()
        moves[name] = seen[1]
    assert moves["random"].norm() == pytest.approx(1.0, abs=1e-4) == moves["fgm"].norm().item()
    assert torch.equal(moves["random"].any(1), moves["fgm"].any(1))
    assert abs((moves["random"] * moves["fgm"]).sum()) < 0.5


NO_EFFECT = {
    "per example without attack": ({"adversarial_per_example": True}, ValueError, "adversarial_per_example"),
    "relative without attack": ({"adversarial_relative": True}, ValueError, "adversarial_relative"),
    "AWP per example": (
        {"adversarial": "awp", "adversarial_per_example": True},
        ValueError,
        "adversarial_per_example",
    ),
    "AWP relative": (
        {"adversarial": "awp", "adversarial_relative": True},
        ValueError,
        "adversarial_relative",
    ),
    "per example is a number": (
        {"adversarial": "fgm", "adversarial_per_example": 1},
        TypeError,
        "adversarial_per_example",
    ),
    "relative is a number": ({"adversarial": "fgm", "adversarial_relative": 1}, TypeError, "adversarial_rel"),
    "warm-up without average": ({"ema_warmup": True}, ValueError, "ema_warmup"),
    "another warm-up": ({"ema_decay": 0.9, "ema_warmup": "cosine"}, ValueError, "ema_warmup"),
    "warm-up is a number": ({"ema_decay": 0.9, "ema_warmup": 1}, ValueError, "ema_warmup"),
    "two passes without R-Drop": ({"rdrop_two_passes": True}, ValueError, "rdrop_two_passes"),
    "two passes is a number": ({"rdrop_alpha": 1.0, "rdrop_two_passes": 1}, TypeError, "rdrop_two_passes"),
}


@pytest.mark.parametrize("case", NO_EFFECT)
def test_arguments_without_effect(tmp_path, case):
    arguments, error, name = NO_EFFECT[case]
    with pytest.raises(error, match=f"^{name}.*: .* accepted"):
        TricksArguments(str(tmp_path), **QUIET, **arguments)


def test_command_line():
    fields = {"output_dir": "out", "report_to": "none", "adversarial": "freelb", "ema_decay": "0.9"}
    fields |= {"adversarial_per_example": "true", "ema_warmup": "power", "rdrop_alpha": "1"}
    words = [word for name, value in fields.items() for word in (f"--{name}", value)]
    (args,) = HfArgumentParser(TricksArguments).parse_args_into_dataclasses(
        [*words, "--adversarial_relative", "--rdrop_two_passes"]
    )
    assert (args.adversarial, args.adversarial_per_example, args.adversarial_relative) == (
        "freelb",
        True,
        True,
    )
    assert (args.ema_warmup, args.rdrop_two_passes) == ("power", True)


# ---- R-Drop


def test_rdrop_by_two_passes_equals_the_plain_loop(tmp_path):
    sizes, model = [], make()

    def each_pass(module, args, kwargs):
        sizes.append(len(kwargs["input_ids"]))
        module.dropout.which = 1 - len(sizes) % 2

    model.register_forward_pre_hook(each_pass, with_kwargs=True)
    arguments = {"rdrop_alpha": 1.5, "rdrop_two_passes": True, "ema_decay": None}
    args = TricksArguments(str(tmp_path), **QUIET, **SGD, **arguments)
    seen = []
    trainer = TricksTrainer(
        model=model,
        args=args,
        train_dataset=data(),
        data_collator=lambda rows: seen.append(rows) or pad(rows),
    )
    trainer.train()
    expected, _, logs = loop(make(), [pad(rows) for rows in seen[:3]], alpha=1.5)
    assert sizes == [8] * 6
    assert_close(weights(model), expected, weights(make()))
    assert trainer.state.log_history[0]["loss_rdrop"] == pytest.approx(logs[0]["loss_rdrop"], rel=1e-3)


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("loss", [{}, {"loss": "focal", "loss_kwargs": {"alpha": None, "gamma": 0.0}}])
def test_rdrop_of_several_labels_an_example(tmp_path, loss, micro):
    trainer = train(
        tmp_path,
        make("multi"),
        data("multi"),
        rdrop_alpha=1.5,
        per_device_train_batch_size=8 // micro,
        gradient_accumulation_steps=micro,
        **SGD,
        **loss,
    )
    model = make("multi")
    for batch in trainer.data_collator.batches(3, micro):
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        passes = []
        for which in (0, 1):
            model.dropout.which = which
            passes.append(model(**inputs).logits)
        kl = [F.binary_cross_entropy_with_logits(x, y.sigmoid()) for x, y in (passes, passes[::-1])]
        entropy = [F.binary_cross_entropy_with_logits(x, x.sigmoid()) for x in passes]
        value = sum(F.binary_cross_entropy_with_logits(x, batch["labels"]) for x in passes) / 2
        value = value + 1.5 * (sum(kl) - sum(entropy)) / 2
        grads = torch.autograd.grad(value, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads):
                p -= 0.05 * g
    assert_close(weights(trainer.model), weights(model), weights(make("multi")))


def test_rdrop_without_dropout_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="^model: .*without active dropout"):
        train(tmp_path, make(masks=False), data(), rdrop_alpha=1.0, **SGD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path, make(masks=False, hidden_dropout_prob=0.1), data(), rdrop_alpha=1.0, **SGD)


# ---- The average


WARMUPS = {
    True: [(1 + n) / (10 + n) for n in range(1, 7)],
    "power": [min(0.9, (1 - 1 / n) ** 7.94) for n in range(1, 7)],
    False: [0.9] * 6,
}


@pytest.mark.parametrize("warmup", WARMUPS)
def test_ema_warmup(tmp_path, warmup):
    watch = Watch()
    trainer = train(
        tmp_path,
        make(masks=False),
        data(),
        callbacks=[watch],
        ema_decay=0.9,
        ema_warmup=warmup,
        **{**SGD, "max_steps": 6, "save_strategy": "steps", "save_steps": 3},
    )
    with trainer.average_parameters():
        average = weights(trainer.model)
    assert_close(average, averaged(watch.steps, WARMUPS[warmup]), watch.steps[0], tolerance=1e-6)
    resumed = train(
        tmp_path,
        make(masks=False),
        data(),
        resume=str(tmp_path / "checkpoint-3"),
        ema_decay=0.9,
        ema_warmup=warmup,
        **{**SGD, "max_steps": 6},
    )
    with resumed.average_parameters():
        assert_equal(weights(resumed.model), average)


def test_average_of_a_short_run(tmp_path):
    with pytest.warns(UserWarning, match="^ema_decay: with 0.9 .*72.9% of the average"):
        train(tmp_path, make(), data(), ema_decay=0.9, **SGD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path, make(), data(), ema_decay=0.9, ema_warmup="power", **SGD)
        train(tmp_path, make(), data(), ema_decay=0.2, **SGD)


def lora(dropout=0.0):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = BertForSequenceClassification(
        BertConfig(**SIZES, num_labels=3, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0)
    )
    return peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", lora_dropout=dropout)
    )


def test_checkpoint_under_lora_holds_what_is_trained_and_resumes_bit_for_bit(tmp_path):
    arguments = {**SGD, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "ema_decay": 0.5}
    whole = train(tmp_path / "whole", lora(0.2), data(), **arguments)
    saved = torch.load(tmp_path / "whole" / "checkpoint-2" / "tricks.pt", weights_only=True)
    trained = {name for name, value in whole.model.named_parameters() if value.requires_grad}
    frozen = {name for name, value in whole.model.named_parameters() if not value.requires_grad}
    assert trained <= saved["model"].keys() and not frozen & saved["model"].keys()
    assert saved["ema"]["shadow"].keys() == trained
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = train(tmp_path / "resumed", lora(0.2), data(), resume=checkpoint, **arguments)
    assert_equal(weights(resumed.model), weights(whole.model))
    with whole.average_parameters(), resumed.average_parameters():
        assert_equal(weights(resumed.model), weights(whole.model))


# ---- The package's own classifiers


def classifier(kind, dropout=0.0):
    torch.manual_seed(0)
    config = BertConfig(
        **{**SIZES, "num_hidden_layers": 4},
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    return kind(BertModel(config), 3, dropout=dropout)


OWN = [MeanPoolingClassifier, LastFourClassifier]


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("kind", OWN)
def test_label_smoothing_of_own_classifiers(tmp_path, kind, micro):
    trainer = train(
        tmp_path,
        classifier(kind),
        data(),
        label_smoothing_factor=0.2,
        per_device_train_batch_size=8 // micro,
        gradient_accumulation_steps=micro,
        **SGD,
    )
    model = classifier(kind)
    for batch in trainer.data_collator.batches(3, micro):
        labels = batch.pop("labels")
        model.zero_grad()
        F.cross_entropy(model(**batch).logits, labels, label_smoothing=0.2).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * (0 if p.grad is None else p.grad)
    assert_close(weights(trainer.model), weights(model), weights(classifier(kind)))


TRICKS = {"loss": "focal", "rdrop_alpha": 1.0, "adversarial": "fgm", "ema_decay": 0.5, "layer_decay": 0.9}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", OWN)
def test_gradient_checkpointing_of_own_classifiers_changes_no_weight(tmp_path, kind):
    """Nor do the tricks: a checkpointed layer runs twice, with the same mask."""
    plain, checkpointed = (
        train(tmp_path, classifier(kind, 0.2), data(), gradient_checkpointing=each, **SGD, **TRICKS)
        for each in (False, True)
    )
    assert_close(weights(checkpointed.model), weights(plain.model), weights(classifier(kind)), 1e-6)


@pytest.mark.parametrize("kind", OWN)
def test_neftune_of_own_classifiers(tmp_path, kind):
    noisy, plain = (
        train(tmp_path, classifier(kind), data(), neftune_noise_alpha=alpha, eval_dataset=data(n=4), **SGD)
        for alpha in (5.0, None)
    )
    moved = [(noisy.model.state_dict()[n] - v).abs().max() for n, v in plain.model.state_dict().items()]
    assert max(moved) > 1e-3
    losses = [noisy.evaluate()["eval_loss"] for _ in range(2)]
    assert losses[0] == losses[1]  # the noise is gone


@pytest.mark.parametrize("kind", OWN)
def test_lora_of_own_classifiers_with_tricks(tmp_path, kind):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=2, target_modules=["query"], modules_to_save=["classifier"], init_lora_weights=False
    )
    model = peft.get_peft_model(classifier(kind, 0.2), config)
    start = weights(model)
    tricks = {**TRICKS, "adversarial_per_example": True, "layer_decay": None}
    trainer = train(tmp_path, model, data(), **{**SGD, "save_strategy": "steps", "save_steps": 3}, **tricks)
    moved = {name for name, value in weights(model).items() if not torch.equal(value, start[name])}
    assert moved == {name for name, value in model.named_parameters() if value.requires_grad}
    assert {"loss_focal", "loss_rdrop", "loss_adversarial"} <= trainer.state.log_history[0].keys()
    saved = torch.load(tmp_path / "checkpoint-3" / "tricks.pt", weights_only=True)
    assert saved["ema"]["shadow"].keys() == moved


# ---- A search


def test_search_over_tricks_takes_effect(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = [
        {"loss": "focal", "rdrop_alpha": 0.0, "adversarial": "none"},
        {"loss": "dice", "rdrop_alpha": 1.0, "adversarial": "none"},
        {"loss": "cross_entropy", "rdrop_alpha": 0.0, "adversarial": "fgm"},
    ]
    seen = []

    class Spy(TricksTrainer):
        def log(self, logs, *args, **kwargs):
            super().log(logs, *args, **kwargs)
            if "loss" in logs:
                seen.append((type(self._loss).__name__, sorted(k for k in logs if k.startswith("loss_"))))

    rows = data()
    trainer = Spy(
        None,
        TricksArguments(str(tmp_path), **QUIET, **{**SGD, "max_steps": 1}),
        model_init=lambda: make(masks=False, hidden_dropout_prob=0.1),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=pad,
    )
    trainer.hyperparameter_search(
        hp_space=lambda trial: space[trial.number],
        n_trials=3,
        backend="optuna",
        compute_objective=lambda _: 0.0,
    )
    assert seen == [
        ("FocalLoss", []),
        ("DiceLoss", ["loss_dice", "loss_rdrop"]),
        ("NoneType", ["loss_adversarial"]),
    ]


def test_what_a_search_makes_of_the_arguments_is_checked(tmp_path):
    trainer = TricksTrainer(
        model=make(),
        args=TricksArguments(str(tmp_path), **QUIET, **SGD),
        train_dataset=data(),
        data_collator=pad,
    )
    trainer.args.ema_decay = 1.5
    with pytest.raises(ValueError, match="^ema_decay: .* accepted"):
        trainer.train()
    trainer.args.ema_decay, trainer.args.loss = None, "fokal"
    with pytest.raises(ValueError, match="^loss: .* accepted"):
        trainer.train()


def test_deepspeed_is_refused_by_name(tmp_path):
    args = TricksArguments(str(tmp_path), ema_decay=0.9, **QUIET)
    args.deepspeed = {"zero_optimization": {"stage": 3}}
    args.hf_deepspeed_config = SimpleNamespace(is_zero3=lambda: True)
    with pytest.raises(ValueError, match="^ema_decay: .*DeepSpeed ZeRO-3.* accepted"):
        args.check_tricks()
    args.hf_deepspeed_config = SimpleNamespace(is_zero3=lambda: False)
    with pytest.raises(ValueError, match="^ema_decay: .*DeepSpeed.* accepted"):
        args.check_tricks()
