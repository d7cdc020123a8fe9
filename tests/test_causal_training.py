"""Language models in ``TricksTrainer``: which labels count. Oracles: plain ``Trainer`` on one whole batch,
which takes the mean of the model's own loss; formulas written out on the labels that this loss compares.
"""

import inspect

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

from tricks_lib import _shift
from tricks_lib.trainer import TricksArguments, TricksTrainer

from .test_trainer import (  # noqa: F401 (two fixtures)
    QUIET,
    SGD,
    assert_close,
    assert_equal,
    few_objects_to_collect,
    focal,
    kept,
    same_environment,
    train,
    weights,
)

# peft asks for what transformers 5.23 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

V = 40
BART = {"d_model": 8, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
BART |= {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "dropout": 0.0}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}


def gpt2(kind=GPT2LMHeadModel, dropout=0.0, **more):
    rates = {f"{name}_pdrop": dropout for name in ("resid", "embd", "attn")}
    return kind(
        GPT2Config(
            vocab_size=V,
            n_embd=8,
            n_layer=1,
            n_head=2,
            n_positions=16,
            bos_token_id=0,
            eos_token_id=0,
            **rates,
            **more,
        )
    )


class Story(GPT2LMHeadModel):
    """A name that says nothing."""


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = gpt2()

    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class Ahead(GPT2LMHeadModel):
    """Its labels are the next tokens already."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
        return output


class FromScratch(nn.Module):
    """No class of transformers, no configuration; returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, 8), nn.Linear(8, V)

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = self.head(self.embed(input_ids).cumsum(1).tanh())
        out = {"logits": logits}
        if labels is not None:
            out["loss"] = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return out


def lora():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=2, target_modules=["c_attn"], task_type="CAUSAL_LM", init_lora_weights=False, fan_in_fan_out=True
    )
    return peft.get_peft_model(gpt2(), config)


MODELS = {  # name: (model, whether its loss shifts the labels)
    "GPT-2": (gpt2, True),
    "subclass": (lambda: gpt2(Story), True),
    "wrapper": (Wrapper, True),
    "LoRA": (lora, True),
    "from scratch": (FromScratch, True),
    "labels ahead": (lambda: gpt2(Ahead), False),
    "Llama": (
        lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=V,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
            )
        ),
        True,
    ),
    "BART decoder": (
        lambda: transformers.BartForCausalLM(transformers.BartConfig(vocab_size=V, pad_token_id=0, **BART)),
        False,
    ),
    "T5": (
        lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=V, decoder_start_token_id=0, pad_token_id=0, **T5)
        ),
        False,
    ),
    "masked": (
        lambda: transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=V,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        ),
        False,
    ),
}


def model_of(name):
    torch.manual_seed(0)
    model = MODELS[name][0]()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn_like(value)  # so that a wrong label is a large difference
    return model


def rows(n=8, left=False):
    """Texts of 3 to 12 tokens, padded to 12 on one side, and prompts without labels."""
    g, out = torch.Generator().manual_seed(3), []
    for length in torch.randint(3, 13, (n,), generator=g).tolist():
        ids, side = (
            torch.randint(3, V, (length,), generator=g),
            (12 - length, 0) if left else (0, 12 - length),
        )
        labels = ids.clone()
        labels[: int(torch.randint(2, (), generator=g))] = -100
        out.append(
            {
                "input_ids": F.pad(ids, side),
                "attention_mask": F.pad(torch.ones_like(ids), side),
                "labels": F.pad(labels, side, value=-100),
            }
        )
    return out


def stack(some):
    return {name: torch.stack([row[name] for row in some]) for name in some[0]}


def trained(folder, model, kind, size, some, micro=1, **arguments):
    args = (TricksArguments if issubclass(kind, TricksTrainer) else transformers.TrainingArguments)(
        str(folder),
        per_device_train_batch_size=size // micro,
        gradient_accumulation_steps=micro,
        **{**QUIET, **SGD, "max_steps": 1, "save_safetensors": True, **arguments}
        if transformers.__version__ < "5"
        else {**QUIET, **SGD, "max_steps": 1, **arguments},
    )
    trainer = kind(model=model, args=args, train_dataset=some, data_collator=stack)
    trainer.train()
    return trainer


EXACT = "_loss_shifts_labels" in inspect.getsource(Trainer)  # late versions count as the loss does


class Means(Trainer):
    """Takes the model's own loss, a mean. Trainer itself counts the first label of each row, where it cannot
    tell the loss by the name of the class (GPT2LMHeadModel), and divides the sum of the losses by too much.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False


def loss_on(name, batch, formula):
    """Weights after one step on a formula of the logits and the labels that belong together."""
    model = model_of(name).train()
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    if name == "T5":
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    outputs, labels = model(**inputs), batch["labels"]
    logits = outputs["logits"]
    if MODELS[name][1]:
        logits, labels = logits[:, :-1], labels[:, 1:]
    params = {k: p for k, p in model.named_parameters() if p.requires_grad}
    value = formula(*kept(logits, labels))
    for p, g in zip(params.values(), torch.autograd.grad(value, list(params.values()), allow_unused=True)):
        p.data -= 0.05 * (0 if g is None else g)
    return weights(model), value.item()


@pytest.mark.parametrize("name", MODELS)
def test_whether_the_loss_shifts_is_asked_of_the_loss_and_once(name):
    model, calls = model_of(name).train(), []
    model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    before, state = weights(model), torch.get_rng_state()
    for _ in range(2):
        assert _shift.shifts_labels(model, stack(rows(3))) is MODELS[name][1]
        assert _shift.shifts_labels(nn.DataParallel(model), stack(rows(3))) is MODELS[name][1]
    assert calls == [False, False]
    assert torch.equal(torch.get_rng_state(), state) and all(module.training for module in model.modules())
    assert_equal(weights(model), before)


def test_classifier_of_tokens_is_not_asked():
    """Its labels are not of its vocabulary: a head that takes no -100 (a CRF) is never given one."""

    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(V, 8), nn.Linear(8, 3)

        def forward(self, input_ids, labels):
            raise AssertionError("asked")

    assert not _shift.shifts_labels(Strict(), {"input_ids": torch.ones(2, 3), "labels": torch.ones(2, 3)})
    assert not _shift.shifts_labels(
        Strict(), {"input_ids": torch.ones(2, 3).long(), "labels": torch.ones(2, 3).long()}
    )


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_one_batch_and_four_micro_batches_equal_plain_trainer_on_one_batch(tmp_path, name, left):
    some, start = rows(left=left), weights(model_of(name))
    plain = Trainer if name == "Llama" and EXACT else Means
    whole = weights(trained(tmp_path, model_of(name), plain, 8, some).model)
    one = weights(trained(tmp_path, model_of(name), TricksTrainer, 8, some).model)
    four = weights(trained(tmp_path, model_of(name), TricksTrainer, 8, some, micro=4).model)
    assert_close(one, whole, start, tolerance=1e-6)
    assert_close(four, whole, start, tolerance=1e-6)


@pytest.mark.parametrize("name", ["GPT-2", "subclass", "LoRA", "BART decoder"])
def test_number_of_items_is_that_of_the_labels_that_count(tmp_path, name):
    seen = []

    class Spy(TricksTrainer):
        def compute_loss(self, model, inputs, *args, num_items_in_batch=None, **kwargs):
            seen.append(num_items_in_batch)
            return super().compute_loss(model, inputs, *args, num_items_in_batch=num_items_in_batch, **kwargs)

    some = rows()
    trained(tmp_path, model_of(name), Spy, 8, some, micro=4)
    labels = stack(some)["labels"][:, 1 if MODELS[name][1] else 0 :]
    assert [n.item() for n in seen] == [(labels != -100).sum().item()] * 4


def test_compute_loss_func_gets_trainers_number(tmp_path):
    def summed(outputs, labels, num_items_in_batch=None):
        logits, labels = outputs["logits"][:, :-1], labels[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / num_items_in_batch

    results = []
    for kind, args in (
        (Trainer, transformers.TrainingArguments),
        (TricksTrainer, TricksArguments),
    ):
        arguments = args(
            str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=4, **QUIET, **SGD
        )
        trainer = kind(
            model=model_of("GPT-2"),
            args=arguments,
            train_dataset=rows(),
            data_collator=stack,
            compute_loss_func=summed,
        )
        trainer.train()
        results.append(weights(trainer.model))
    assert_equal(*results)


LOSSES = {
    "focal": ({"loss": "focal"}, focal),
    "label smoothing": (
        {"label_smoothing_factor": 0.2},
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2),
    ),
    "class weights": (
        {"loss": "weighted", "loss_kwargs": {"weight": [1.0 + c % 3 for c in range(V)]}},
        lambda x, y: F.cross_entropy(x, y, weight=torch.tensor([1.0 + c % 3 for c in range(V)])),
    ),
}


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["GPT-2", "subclass", "wrapper", "LoRA", "BART decoder", "masked"])
def test_other_losses_see_the_labels_of_the_models_own(tmp_path, name, loss, micro):
    if name == "wrapper" and loss == "label smoothing":
        pytest.skip("Trainer asks the model for its configuration")
    arguments, formula = LOSSES[loss]
    some = rows()
    expected, value = loss_on(name, stack(some), formula)
    trainer = trained(tmp_path, model_of(name), TricksTrainer, 8, some, micro, **arguments)
    assert_close(weights(trainer.model), expected, weights(model_of(name)), tolerance=1e-6)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("name", ["GPT-2", "BART decoder"])
def test_evaluation_before_any_training(tmp_path, name):
    some = rows()
    args = TricksArguments(str(tmp_path), loss="focal", loss_kwargs={"gamma": 0.0}, **QUIET)
    trainer = TricksTrainer(model=model_of(name), args=args, eval_dataset=some, data_collator=stack)
    own = model_of(name).eval()(**stack(some)).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("name", ["GPT-2", "subclass", "LoRA", "BART decoder"])
def test_rdrop_compares_the_positions_that_have_a_label(tmp_path, name, micro):
    """A model whose logits are scaled by 0.8 in the second half of a doubled batch."""
    some, batch = rows(), stack(rows())

    def scaled(model):
        def hook(module, args, output):
            half = len(output) // 2
            factor = torch.ones(len(output), 1, 1)
            factor[half:] = 0.8
            return output * factor if module.training else output

        head = next(m for m in model.modules() if getattr(m, "out_features", 0) == V)
        head.register_forward_hook(hook)
        return model

    def formula(x, y):
        p, q = x.log_softmax(-1), (0.8 * x).log_softmax(-1)
        kl = 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()
        return 0.5 * (F.nll_loss(p, y) + F.nll_loss(q, y)) + 1.5 * kl

    expected, value = loss_on(name, batch, formula)
    trainer = trained(tmp_path, scaled(model_of(name)), TricksTrainer, 8, some, micro, rdrop_alpha=1.5)
    assert_close(weights(trainer.model), expected, weights(model_of(name)), tolerance=1e-6)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(value, rel=1e-3)
