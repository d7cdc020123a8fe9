"""What the table's experiments are made of. Oracles: scikit-learn, the package's own classifiers,
TricksTrainer, sums written out.
"""

import collections

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import BertModel

from tricks_lib.lab import experiment as lab
from tricks_lib.lab import fit
from tricks_lib.lab.studies import ema, stacking
from tricks_lib.lab.studies import finetuned as study
from tricks_lib.last_four import LastFourClassifier
from tricks_lib.mean_pooling import MeanPoolingClassifier

from .conftest import WORDS, tiny_config, tiny_tokenizer

STACK = fit.collate(tiny_tokenizer())
COMMON = {"steps": 3, "batch_size": 4, "lr": 1e-3, "max_length": 16}


def encoder(**changes):
    torch.manual_seed(0)
    return BertModel(tiny_config(num_hidden_layers=5, initializer_range=0.2, **changes))


def rows(n=24, num_labels=2, seed=0):
    rng, tokenizer = np.random.default_rng(seed), tiny_tokenizer()
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]
    encoded = tokenizer(texts)
    return [
        {"input_ids": a, "attention_mask": b, "labels": i % num_labels}
        for i, (a, b) in enumerate(zip(encoded["input_ids"], encoded["attention_mask"]))
    ]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- rows


def test_typos_change_some_inner_letters_of_longer_words_and_nothing_else():
    text = "the quick brown fox jumps over it , wonderful !" * 40
    found = study.typos(text, np.random.default_rng(0), share=0.5)
    assert (
        found
        == study.typos(text, np.random.default_rng(0), share=0.5)
        != study.typos(text, np.random.default_rng(1), share=0.5)
    )
    kinds = collections.Counter()
    for old, new in zip(text.split(" "), found.split(" "), strict=True):
        assert (old[0], old[-1]) == (new[0], new[-1])
        if len(old) < 4:
            assert old == new
        elif old != new:
            kinds[len(new) - len(old)] += 1
            if len(new) == len(old):
                (i, j) = [i for i, (a, b) in enumerate(zip(old, new)) if a != b]
                assert j == i + 1 and (new[i], new[j]) == (old[j], old[i])
            else:
                short, long = sorted((old, new), key=len)
                assert any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    longer = sum(len(word) > 3 for word in text.split(" "))
    assert set(kinds) == {-1, 0, 1} and 0.4 < sum(kinds.values()) / longer < 0.6
    assert study.typos(text, np.random.default_rng(0), share=0.0) == text


def test_of_each_takes_so_many_of_a_class_and_all_where_there_are_fewer():
    some = rows(60, 3)[:-20] + rows(60, 3)[:2]
    counts = collections.Counter(row["labels"] for row in some)
    found = study.of_each(some, [5, 0, 99], seed=1)
    assert collections.Counter(row["labels"] for row in found) == {0: 5, 2: counts[2]}
    assert found == study.of_each(some, [5, 0, 99], seed=1) != study.of_each(some, [5, 0, 99], seed=2)
    assert len({id(row) for row in found}) == len(found)


def test_a_long_tail_falls_by_one_factor_and_the_seed_draws_the_ranks():
    counts = study.long_tail(5, 81, 1, seed=0)
    assert (
        sorted(counts) == [1, 3, 9, 27, 81]
        and counts.tolist() == study.long_tail(5, 81, 1, 0).tolist() != study.long_tail(5, 81, 1, 4).tolist()
    )


def test_drawn_follows_the_settings_and_the_seed():
    some = rows(40)
    assert study.drawn(some, {}, 2, 0) == some
    assert study.drawn(some, {"rows": 7}, 2, 3) == fit.draw(some, 7, 3)
    assert collections.Counter(row["labels"] for row in study.drawn(some, {"per_class": 4}, 2, 0)) == {
        0: 4,
        1: 4,
    }
    assert sorted(
        collections.Counter(row["labels"] for row in study.drawn(some, {"tail": [8, 2]}, 2, 0)).values()
    ) == [2, 8]


@pytest.mark.parametrize(
    "head, places",
    [(512, range(512)), (0, range(88, 600)), (128, [*range(128), *range(216, 600)])],
    ids=["head", "tail", "both"],
)
def test_part_keeps_head_tail_or_both_of_every_column(head, places):
    long = {"input_ids": list(range(600)), "attention_mask": [1] * 600, "labels": 1}
    short = {"input_ids": [7, 8], "attention_mask": [1, 1], "labels": 0}
    assert study.part([long, short], head) == [
        {"input_ids": list(places), "attention_mask": [1] * 512, "labels": 1},
        short,
    ]


def test_halves_share_no_row_and_leave_the_test_split_alone_while_tuning():
    splits = {"validation": list(range(9)), "test": list("abc")}
    assert study.halves(splits, "test") == (splits["validation"], splits["test"])
    known, asked = study.halves(splits, "validation")
    assert sorted(known + asked) == splits["validation"] and len(known) == 4


# --- model, loss, training


@torch.no_grad()
@pytest.mark.parametrize(
    "layers, reference",
    [
        ("last", lambda e: MeanPoolingClassifier(e, 3)),
        ("last", lambda e: LastFourClassifier(e, 3, "mean", num_layers=1)),
        ("concat", lambda e: LastFourClassifier(e, 3, "mean", num_layers=4)),
    ],
    ids=["mean pooling", "last layer", "concat"],
)
def test_the_classifier_is_that_of_the_package(layers, reference):
    model, expected = study.Classifier(encoder(), 3, layers=layers).eval(), reference(encoder()).eval()
    expected.load_state_dict(model.state_dict())
    batch = STACK(rows(5, 3))
    torch.testing.assert_close(model(**batch).logits, expected(**batch).logits)
    torch.testing.assert_close(model(**batch).loss, expected(**batch).loss)


@torch.no_grad()
def test_sum_adds_four_layers_and_weighted_begins_as_their_mean():
    batch = STACK(rows(5))
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    states = {
        name: study.Classifier(encoder().eval(), 2, layers=name).eval().states(**inputs)
        for name in ("sum", "weighted")
    }
    torch.testing.assert_close(
        states["sum"], sum(encoder().eval()(**inputs, output_hidden_states=True).hidden_states[-4:])
    )
    torch.testing.assert_close(4 * states["weighted"], states["sum"])


@torch.no_grad()
def test_every_pooling_arm_pools_otherwise():
    batch = STACK(rows(5))
    logits = []
    for arm in study.POOLED.values():
        torch.manual_seed(1)
        logits.append(study.Classifier(encoder().eval(), 2, **arm).eval()(**batch).logits)
    assert all(not torch.allclose(a, b) for i, a in enumerate(logits) for b in logits[:i])


def test_the_losses_are_those_of_the_chapters():
    logits, y = (
        torch.randn(6, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 0, 0, 1, 0]),
    )
    cross_entropy = torch.nn.functional.cross_entropy
    names = ("cross-entropy", "weighted", "label smoothing", "focal", "Dice", "both")
    of = {name: study.objective({"loss": name, "gamma": 0.0}, y.numpy())(logits, y) for name in names}
    torch.testing.assert_close(of["focal"], of["cross-entropy"])
    torch.testing.assert_close(of["weighted"], cross_entropy(logits, y, weight=torch.tensor([6 / 5, 6 / 1])))
    torch.testing.assert_close(of["label smoothing"], cross_entropy(logits, y, label_smoothing=0.1))
    torch.testing.assert_close(of["both"], of["cross-entropy"] + of["Dice"])
    assert study.objective({"loss": "focal", "gamma": 2.0}, y.numpy())(logits, y) < of["focal"]
    x = torch.randn(6, 1)
    torch.testing.assert_close(
        study.objective({"loss": "mse"}, y.numpy())(x, y.float()),
        torch.nn.functional.mse_loss(x[:, 0], y.float()),
    )


def trained(settings, times=1, seed=0):
    torch.manual_seed(seed)
    model = study.Classifier(encoder(), 2)
    losses = study.train(model, rows(), STACK, {**COMMON, **settings}, seed)
    return model, losses


ARMS = {
    "R-Drop": {"alpha": 1.0},
    "layer decay": {"decay": 0.5},
    "focal": {"loss": "focal", "gamma": 2.0},
    **{name: settings for name, settings in study.ADVERSARIAL.items() if "attack" in settings},
}


def test_every_arm_trains_otherwise_than_plain_and_repeats_by_seed():
    plain, _ = trained({})
    found = {name: weights(trained(settings)[0]) for name, settings in ARMS.items()}
    assert all(not torch.equal(weights(plain), each) for each in found.values())
    assert len({tuple(each[:500].tolist()) for each in found.values()}) == len(found)
    for name in ("R-Drop", "FGM, epsilon 1"):
        assert torch.equal(found[name], weights(trained(ARMS[name])[0]))


def test_times_is_a_factor_on_the_steps():
    assert [len(trained({"times": times})[1]) for times in (1, 2, 4)] == [3, 6, 12]


@pytest.mark.parametrize("name", study.ADVERSARIAL)
def test_attacks_go_as_far_as_they_say_and_take_their_passes(name):
    settings = study.ADVERSARIAL[name]
    model = study.Classifier(encoder(), 2)
    table = model.encoder.embeddings.word_embeddings.weight
    clean, distances = table.detach().clone(), []
    model.register_forward_pre_hook(lambda *_: distances.append((table.detach() - clean).norm().item()))
    study.train(
        model, rows(), STACK, {**settings, "steps": 1, "times": 1, "batch_size": 4, "lr": 1e-3}, seed=0
    )
    expected = {
        "random, epsilon 1": [1.0],
        "FGM, epsilon 0.3": [0.3],
        "FGM, epsilon 1": [1.0],
        "PGD, epsilon 1": [0.3],
    }.get(name, [])
    assert distances[: 1 + len(expected)] == pytest.approx([0.0, *expected], abs=1e-4)
    assert len(distances) == 1 + settings.get("passes", len(expected)) and max(distances) <= 1.0001


@pytest.mark.parametrize(
    "arm, tricks",
    [
        ({}, {}),
        ({"attack": "FGM", "epsilon": 0.5}, {"adversarial": "fgm", "adversarial_epsilon": 0.5}),
        ({"attack": "PGD", "epsilon": 0.5, "passes": 3}, {"adversarial": "pgd", "adversarial_epsilon": 0.5}),
        ({"decay": 0.5}, {"layer_decay": 0.5}),
        ({"loss": "focal", "gamma": 2.0}, {"loss": "focal", "loss_kwargs": {"gamma": 2.0}}),
        ({"loss": "Dice"}, {"loss": "dice"}),
        ({"loss": "self-adjusting Dice"}, {"loss": "self_adjusting_dice"}),
    ],
    ids=lambda each: str(each),
)
def test_a_step_is_that_of_tricks_trainer(arm, tricks):
    """One batch holds all rows, no dropout: the order of the rows does not matter, and both loops take the
    same step.
    """
    models = [
        study.Classifier(encoder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), 2)
        for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    some = rows(8)
    study.train(models[0], some, STACK, {"steps": 1, "batch_size": 8, "lr": 1e-3, **arm}, seed=0)
    stacking.trainer(
        models[1], some, STACK, tricks, steps=1, lr=1e-3, seed=0, batch_size=8, use_cpu=True, warmup_steps=0
    ).train()
    start = study.Classifier(encoder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), 2)
    moved = [weights(m.encoder) - weights(start.encoder) for m in models]
    agree = (moved[0] - moved[1]).norm() / moved[1].norm()
    assert agree < 0.05, agree


# --- scores


def test_score_equals_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((80, 2)).astype(np.float32), rng.integers(0, 2, 80)
    found, predicted = study.score(logits, labels), logits.argmax(1)
    assert found["f1"] == pytest.approx(f1_score(labels, predicted)) and found["mcc"] == pytest.approx(
        matthews_corrcoef(labels, predicted)
    )
    assert (
        found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        and 0 <= found["ece"] <= 1
    )
    constant = np.tile(np.float32([1, 0]), (80, 1))
    assert study.score(constant, labels)["mcc"] == matthews_corrcoef(labels, constant.argmax(1)) == 0
    assert study.score(logits, np.zeros(80, dtype=int))["mcc"] == 0
    assert {"f1", "mcc"}.isdisjoint(study.score(rng.standard_normal((80, 3)).astype(np.float32), labels))


def test_decide_by_hand():
    p = np.array([[0.5, 0.1, 0.4], [0.2, 0.5, 0.3], [0.8, 0.15, 0.05]])
    assert study.decide(p, 0, None).tolist() == [0, 1, 0]
    assert (
        study.decide(p, 0, 0.4).tolist() == [2, 1, 0]
        and study.decide(p, 0, 0.1).tolist() == [2, 1, 1]
        and study.decide(p, 0, 0.9).tolist() == [0, 0, 0]
    )
    assert study.decide(p, 2, 0.65).tolist() == [2, 1, 0] and p[0, 0] == 0.5


# --- runs that share a training


@pytest.fixture
def task(monkeypatch):
    """A task of tiny rows in place of :func:`prepared`."""
    from types import SimpleNamespace

    splits = {"train": rows(24), "validation": rows(16, seed=1), "test": rows(12, seed=2)}

    def make(seed):
        torch.manual_seed(seed)
        return study.Classifier(encoder(), 2)

    made = SimpleNamespace(rows=splits, stack=STACK, make=make, num_labels=2, sd=None)
    monkeypatch.setattr(study, "prepared", lambda *_: made)
    for function in (study.averages, study.probabilities):
        function.cache_clear()
    yield made
    for function in (study.averages, study.probabilities):
        function.cache_clear()


def test_watching_a_training_for_its_averages_leaves_it_as_it_is(task):
    settings = {**COMMON, "steps": 8, "schedule": "linear"}
    found = study.averages(
        "tiny", "own", "accuracy", study.shared({**settings, "average": "last"}, "average"), 5, "test"
    )
    plain = task.make(5)
    study.train(plain, task.rows["train"], STACK, settings, 5)
    assert found["last"] == study.evaluate(plain, task.rows["test"], task)
    assert {each["average"] for each in study.WEIGHTS.values()} == set(found)


def test_averages_are_what_their_names_say(task, monkeypatch):
    """The weights after every step are kept, and the averages made of them written out."""
    path, scored = [], {}
    real_train, real_evaluate = ema.train, study.evaluate

    def keeping(model, *arguments, watch, **options):
        def both(followed):
            watch(followed)
            path.append(weights(model))

        return real_train(model, *arguments, watch=both, **options)

    def evaluate(model, rows, of):
        if rows is task.rows["test"]:
            scored[len(scored)] = weights(model)
        result = real_evaluate(model, rows, of)
        if rows is task.rows["validation"]:
            result["loss"] = checkpoints.pop(0)
        return result

    monkeypatch.setattr(ema, "train", keeping)
    monkeypatch.setattr(study, "evaluate", evaluate)
    checkpoints = [0.1, 0.3, 0.9, 0.2, 0.9, 0.5, 0.0, 0.4]  # of eight; the third is the first of the best
    settings = study.shared({**COMMON, "steps": 16, "schedule": "constant"})
    names = list(study.averages("tiny", "own", "loss", settings, 0, "test"))
    found = dict(zip(names, scored.values()))
    start, decay = weights(task.make(0)), 0.99
    torch.testing.assert_close(found["last"], path[-1])
    torch.testing.assert_close(found["best checkpoint"], path[5])  # after the sixth step
    torch.testing.assert_close(found["SWA"], torch.stack(path[8:]).mean(0), rtol=1e-4, atol=1e-6)
    average = decay**16 * start + (1 - decay) * sum(decay ** (15 - i) * w for i, w in enumerate(path))
    torch.testing.assert_close(found["EMA 0.99"], average, rtol=1e-4, atol=1e-6)
    assert checkpoints == []


def test_one_training_serves_all_arms_that_differ_in_what_is_evaluated(task, monkeypatch):
    made, real = [], fit.fit
    monkeypatch.setattr(
        fit, "fit", lambda *arguments, **options: made.append(options["lr"]) or real(*arguments, **options)
    )
    for name, table, run, own in (
        ("average", study.WEIGHTS, study.run_average, {}),
        ("threshold", study.DICE, study.run_threshold, {"rare": "A"}),
    ):
        made.clear()
        of = {"trick": "own", "task": name, "setting": "", "model": "tiny", "data": "own"}
        experiment = lab.Experiment(**of, arms=table, baseline=next(iter(table)), metric="accuracy", run=run)
        found = [run(experiment, {**COMMON, **own, **settings}, 0, "test") for settings in table.values()]
        trainings = {tuple((k, v) for k, v in settings.items() if k != name) for settings in table.values()}
        assert len(made) == len(trainings) < len(table) == len(found)


def test_a_tuned_threshold_is_chosen_on_the_known_rows_and_used_on_the_others(monkeypatch):
    labels = np.array([1, 0, 1])
    known, asked = (
        np.array([[0.7, 0.3], [0.9, 0.1], [0.6, 0.4]]),
        np.array([[0.75, 0.25], [0.95, 0.05], [0.4, 0.6]]),
    )
    monkeypatch.setattr(study, "probabilities", lambda *_: ((known, labels), (asked, labels)))
    experiment = study.EXPERIMENTS[0]
    tuned = study.run_threshold(experiment, {"threshold": "tuned"}, 0, "test")
    assert tuned == {"f1": 1.0, "macro_f1": 1.0, "threshold": 0.2}  # half-way between 0.1 and 0.3
    assert study.run_threshold(experiment, {}, 0, "test") == {
        "f1": round(2 / 3, 6),
        "macro_f1": round((2 / 3 + 2 / 3) / 2, 6),
        "threshold": 0.5,
    }


# --- the table


def test_every_row_of_the_evidence_is_registered():
    """Every row of the book's list of evidence has a registered experiment, none twice."""
    wanted = {
        "mean_pooling": ("en_stsb", "en_trec", "en_trec_finetuned", "en_banking77", "en_banking77_finetuned"),
        "rdrop": ("en_rte", "en_mrpc", "en_cola", "en_banking77"),
        "last_four": ("en_wnut17", "en_trec", "en_trec_minilm", "en_trec_finetuned_minilm"),
        "layer_decay": ("en_rte", "en_cola", "en_mrpc", "en_clear_readability"),
        "xlnet_long_text": ("en_moviereview2k", "en_moviereview2k_minilm", "en_hyperpartisan"),
        "ema": ("en_cola", "en_sst2", "en_clear_readability"),
        "dice_loss": ("en_hate_davidson", "en_hate_davidson_minilm", "en_wnut17", "en_mrpc"),
        "focal_loss": ("en_hate_davidson", "en_hate_davidson_minilm", "en_banking77"),
        "fgm": ("en_rte", "en_mrpc", "en_cola", "en_banking77", "en_banking77_minilm"),
        "decoding": ("corpus_en",),
        "mse_corr_loss": ("en_stsb", "en_clear_readability", "en_clear_readability_minilm"),
    }
    assert {f"{trick}/{task}" for trick, rows in wanted.items() for task in rows} <= lab.registry().keys()
    names = [experiment.name for experiment in study.EXPERIMENTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("experiment", study.EXPERIMENTS, ids=lambda each: each.name)
def test_an_arm_with_more_compute_has_its_control(experiment):
    """The passes of a step, times the factor on the steps: what a trick costs, a plain arm costs too."""

    def cost(settings):
        return settings.get("times", 1) * (
            1 + bool(settings.get("alpha")) + (settings.get("passes", 1) if "attack" in settings else 0)
        )

    plain = {
        cost(settings)
        for settings in experiment.arms.values()
        if not settings.get("alpha") and "attack" not in settings
    }
    assert {cost(settings) for settings in experiment.arms.values()} == plain and 1 in plain
    assert len(experiment.seeds) == 10 and len(experiment.tuning_seeds) == 3
    common = set.intersection(
        *({(k, str(v)) for k, v in settings.items()} for settings in experiment.arms.values())
    )
    assert {"steps", "batch_size", "max_length"} <= {k for k, _ in common}
