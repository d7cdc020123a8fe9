"""The package's classifiers as models among models: saved and loaded, and under Trainer, NEFTune and PEFT.

Oracles: the classifier itself before it was saved; transformers' own tools on the encoder; formulas.
"""

import copy
import json

import pytest
import torch
import transformers as t
from safetensors.torch import load_file
from torch import nn

from tricks_lib.last_four import LastFourClassifier
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.xlnet_long_text import SlidingWindowClassifier, XLNetLongClassifier

V, H = 20, 8
SIZE = dict(
    vocab_size=V,
    hidden_size=H,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=32,
    initializer_range=0.5,
)
ATTENTION = dict(
    encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, init_std=0.5
)
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
T5_SIZE = dict(vocab_size=V, d_model=H, d_kv=4, d_ff=8, num_layers=4, num_heads=2)
ENCODERS = {
    "BERT": lambda **k: t.BertModel(t.BertConfig(**SIZE | k)),
    "DeBERTa": lambda **k: t.DebertaV2Model(t.DebertaV2Config(**SIZE | k)),
    "ModernBERT": lambda **k: t.ModernBertModel(
        t.ModernBertConfig(**SIZE | SPECIAL | dict(cls_token_id=1, sep_token_id=2) | k)
    ),
    "ALBERT": lambda **k: t.AlbertModel(t.AlbertConfig(**SIZE | dict(embedding_size=4) | k)),
    "XLNet": lambda **k: t.XLNetModel(
        t.XLNetConfig(
            **dict(vocab_size=V, d_model=H, n_layer=4, n_head=2, d_inner=8, initializer_range=0.5) | k
        )
    ),
    "GPT-2": lambda **k: t.GPT2Model(
        t.GPT2Config(**dict(vocab_size=V, n_embd=H, n_layer=4, n_head=2, n_positions=32, **SPECIAL) | k)
    ),
    "T5": lambda **k: t.T5Model(t.T5Config(**T5_SIZE | k)),
    "T5's encoder": lambda **k: t.T5EncoderModel(t.T5Config(**T5_SIZE | k)),
    "BART": lambda **k: t.BartModel(
        t.BartConfig(vocab_size=V, d_model=H, encoder_layers=4, decoder_layers=2, **ATTENTION, **SPECIAL, **k)
    ),
}
FAMILIES = pytest.mark.parametrize("family", ENCODERS)


def encoder(family="BERT", seed=0, **config):
    torch.manual_seed(seed)
    return ENCODERS[family](**config).eval()


CLASSIFIERS = {
    "mean": lambda **k: MeanPoolingClassifier(encoder(), 3, **k),
    "last four": lambda **k: LastFourClassifier(encoder(), 3, **k),
    "XLNet": lambda **k: XLNetLongClassifier(encoder("XLNet"), 3, **k),
    "windows": lambda **k: SlidingWindowClassifier(encoder(), 3, **k),
}
ALL = pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)
IDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9], [9, 3, 7, 0, 0, 0, 0]])
MASK = (IDS > 0).long()
BATCH = {"input_ids": IDS, "attention_mask": MASK}


def logits(model, **batch):
    with torch.no_grad():
        return model(**(BATCH | batch)).logits


def trained(model, tmp_path, rows=None, **options):
    """``model`` after Trainer's steps, and the trainer."""
    settings = dict(max_steps=2, learning_rate=0.05, report_to=[], save_strategy="no", disable_tqdm=True)
    if rows is None:
        rows = [{"input_ids": [3 + i % 5] * 7, "attention_mask": [1] * 7, "labels": i % 3} for i in range(16)]
    arguments = t.TrainingArguments(tmp_path / "run", use_cpu=True, seed=0, **settings | options)
    trainer = t.Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    return trainer


# ---------------------------------------------------------------- saved and loaded

SETTINGS = {
    "mean": (CLASSIFIERS["mean"], dict(dropout=0.3)),
    "last four": (CLASSIFIERS["last four"], dict(pool="mean", num_layers=2, dropout=0.4)),
    "XLNet": (CLASSIFIERS["XLNet"], dict(segment_length=3, mem_len=2, pool="max", dropout=0.2)),
    "windows": (
        CLASSIFIERS["windows"],
        dict(window_length=4, stride=3, pool="attention", windows_at_once=2, dropout=0.0),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_loaded_equals_what_was_saved(name, tmp_path):
    make, settings = SETTINGS[name]
    model = make(**settings, head_bias=[0.5, -1.0, 2.0]).eval()
    model.save_pretrained(tmp_path / "new" / "folder")
    again = type(model).from_pretrained(tmp_path / "new" / "folder")
    assert not again.training and torch.equal(logits(again), logits(model))
    assert type(again.encoder) is type(model.encoder)
    assert again.config.to_dict() == model.config.to_dict()
    for setting, value in settings.items():
        assert (again.dropout.p if setting == "dropout" else getattr(again, setting)) == value
    assert list(again.state_dict()) == list(model.state_dict())


@FAMILIES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_family_of_encoders_comes_back_in_its_dtype(family, dtype, tmp_path):
    model = MeanPoolingClassifier(encoder(family).to(dtype), 2).eval()
    model.save_pretrained(tmp_path)
    again = MeanPoolingClassifier.from_pretrained(str(tmp_path))
    assert {n: p.dtype for n, p in again.named_parameters()} == {
        n: dtype for n, _ in model.named_parameters()
    }
    assert torch.equal(logits(again), logits(model))
    assert again.config.to_dict() == model.config.to_dict()


def test_nothing_is_pickled(tmp_path):
    CLASSIFIERS["mean"]().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["class"] == "MeanPoolingClassifier" and described["encoder"]["config"]["vocab_size"] == V


def test_loading_takes_no_random_numbers_into_the_weights(tmp_path):
    model = CLASSIFIERS["mean"]()
    model.save_pretrained(tmp_path)
    torch.manual_seed(123)
    again = MeanPoolingClassifier.from_pretrained(tmp_path)
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in again.state_dict().items())


def test_given_weights_are_saved_in_place_of_the_models_own(tmp_path):
    model = CLASSIFIERS["mean"]()
    averaged = {name: torch.zeros_like(x) for name, x in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=averaged)
    assert not any(p.any() for p in MeanPoolingClassifier.from_pretrained(tmp_path).parameters())


def test_names_of_the_weights_are_the_encoders_and_the_heads():
    model, inner = CLASSIFIERS["mean"](), encoder()
    expected = {f"encoder.{name}" for name in inner.state_dict()} | {"classifier.weight", "classifier.bias"}
    assert set(model.state_dict()) == expected


class Own(t.BertModel):
    """A user's encoder: no class of transformers."""


def test_an_encoder_of_ones_own_is_given_on_loading(tmp_path):
    torch.manual_seed(0)
    model = MeanPoolingClassifier(Own(t.BertConfig(**SIZE)), 2).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^encoder: None given, .* accepted"):
        MeanPoolingClassifier.from_pretrained(tmp_path)
    fresh = Own(t.BertConfig(**SIZE))
    again = MeanPoolingClassifier.from_pretrained(tmp_path, encoder=fresh)
    assert again.encoder is fresh and torch.equal(logits(again), logits(model))


def test_an_encoder_that_was_cut_is_given_on_loading(tmp_path):
    def cut():
        inner = encoder()
        inner.encoder.layer = inner.encoder.layer[:2]
        return inner

    model = MeanPoolingClassifier(cut(), 2).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^encoder: .* do not fit this BertModel; .* accepted"):
        MeanPoolingClassifier.from_pretrained(tmp_path)
    again = MeanPoolingClassifier.from_pretrained(tmp_path, encoder=cut())
    assert torch.equal(logits(again), logits(model))


def test_a_class_that_only_claims_to_be_of_transformers_is_not_imported(tmp_path):
    CLASSIFIERS["mean"]().save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    for claimed in (
        "os.path",
        "transformers.trainer.Trainer",
        "transformers.nowhere.Model",
        "subprocess.Popen",
    ):
        described["encoder"]["class"] = claimed
        (tmp_path / "config.json").write_text(json.dumps(described))
        with pytest.raises(ValueError, match="^encoder: None given, .* accepted"):
            MeanPoolingClassifier.from_pretrained(tmp_path)


def test_another_folder_is_an_error_that_names_it(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match="^folder: .* accepted; this one holds no classifier"):
            MeanPoolingClassifier.from_pretrained(folder)
    encoder().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="^folder: .* accepted; this one holds no classifier"):
        MeanPoolingClassifier.from_pretrained(tmp_path / "bert")
    CLASSIFIERS["last four"]().save_pretrained(tmp_path / "four")
    with pytest.raises(ValueError, match="^folder: .* accepted; this one holds LastFourClassifier"):
        MeanPoolingClassifier.from_pretrained(tmp_path / "four")


# ---------------------------------------------------------------- encoder-decoder models, tied weights


@pytest.mark.parametrize("family", ["T5", "BART"])
def test_the_encoder_of_an_encoder_decoder_model_is_read_and_not_its_decoder(family):
    """The model itself needs decoder_input_ids, or makes them of the text: its states are the decoder's."""
    whole = encoder(family)
    model = MeanPoolingClassifier(whole, 2).eval()
    assert model.encoder is whole.get_encoder()
    assert not any("decoder" in name for name, _ in model.named_parameters())
    states = whole.get_encoder()(**BATCH).last_hidden_state
    means = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    torch.testing.assert_close(logits(model), model.classifier(means), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["T5", "BART"])
def test_last_four_and_windows_read_the_encoder_too(family):
    whole = encoder(family)
    four = LastFourClassifier(whole, 2, pool="cls").eval()
    states = whole.get_encoder()(**BATCH, output_hidden_states=True).hidden_states
    expected = four.classifier(torch.cat([h[:, 0] for h in states[-4:]], dim=-1))
    torch.testing.assert_close(logits(four), expected, rtol=1e-5, atol=1e-6)
    assert SlidingWindowClassifier(whole, 2, window_length=4).encoder is whole.get_encoder()


def test_tied_weights_are_saved_once_also_by_trainer(tmp_path):
    """T5EncoderModel has its table under two names; safetensors refuses to write one tensor twice."""
    model = MeanPoolingClassifier(encoder("T5's encoder"), 3)
    shared, other = "encoder.shared.weight", "encoder.encoder.embed_tokens.weight"
    assert shared in model.state_dict() and other not in model.state_dict()
    trainer = trained(model, tmp_path)
    trainer.save_model(tmp_path / "saved")
    again = MeanPoolingClassifier(encoder("T5's encoder", seed=1), 3).eval()
    again.load_state_dict(load_file(tmp_path / "saved" / "model.safetensors"))
    assert again.encoder.shared.weight is again.encoder.encoder.embed_tokens.weight
    assert torch.equal(logits(again), logits(model.eval()))
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))


# ---------------------------------------------------------------- what tools ask of a model


@ALL
def test_config_and_embeddings_are_the_encoders(make):
    model = make()
    assert model.config is model.encoder.config and model.config.num_labels == 3
    assert model.get_input_embeddings() is model.encoder.get_input_embeddings()
    assert model.get_output_embeddings() is None
    model.set_input_embeddings(table := nn.Embedding(V + 3, H))
    assert model.encoder.get_input_embeddings() is table


@pytest.mark.parametrize("name", ["mean", "last four", "windows"])
def test_gradient_checkpointing_recomputes_and_gives_the_same_gradient(name):
    """Oracle: without it. That something is recomputed shows in the number of times a layer runs."""

    def gradients(checkpointing):
        model, runs = CLASSIFIERS[name](dropout=0.0).train(), []
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        assert model.is_gradient_checkpointing is checkpointing
        layer = model.encoder.encoder.layer[0].attention.self
        layer.register_forward_hook(lambda *_: runs.append(1))
        model(**BATCH, labels=torch.tensor([0, 2])).loss.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, len(runs), model

    plain, once, _ = gradients(False)
    recomputed, twice, model = gradients(True)
    assert twice == 2 * once
    assert plain.keys() == recomputed.keys()
    for parameter, gradient in plain.items():
        torch.testing.assert_close(recomputed[parameter], gradient)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("reentrant", [False, True])
def test_arguments_of_gradient_checkpointing_reach_the_encoder(reentrant):
    model = CLASSIFIERS["mean"]()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    functions = [module._gradient_checkpointing_func for module in layers]
    assert functions and all(f.keywords["use_reentrant"] is reentrant for f in functions)


def test_an_encoder_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match="XLNetModel does not support (gradient|activation) checkpointing"):
        CLASSIFIERS["XLNet"]().gradient_checkpointing_enable()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["mean", "last four", "windows"])
def test_gradient_checkpointing_under_trainer(name, tmp_path):
    model = CLASSIFIERS[name]()
    trained(model, tmp_path, gradient_checkpointing=True)
    assert model.is_gradient_checkpointing


@ALL
def test_label_smoothing_under_trainer(make, tmp_path):
    """Oracle: cross-entropy with torch's own label smoothing, on the first step of one batch."""
    model = make(dropout=0.0).eval()
    rows = [{"input_ids": IDS[0].tolist(), "attention_mask": [1] * 7, "labels": 2}] * 4
    batch = dict(input_ids=IDS[:1], attention_mask=MASK[:1])
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(**batch).logits, torch.tensor([2]), label_smoothing=0.3)
    trainer = trained(model, tmp_path, rows, label_smoothing_factor=0.3, max_steps=1, learning_rate=0.0)
    loss = trainer.evaluate()["eval_loss"]
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@ALL
def test_neftune_adds_noise_to_the_embeddings_while_training(make, tmp_path):
    """Jain et al. 2023: uniform noise of at most alpha / sqrt(T * H)."""
    noises = []

    class Compare(t.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            table, ids = model.get_input_embeddings(), torch.arange(6)[None]
            noises.append((table(ids) - table.weight[ids]).detach().abs().max().item())

    rows = [{"input_ids": [3] * 7, "attention_mask": [1] * 7, "labels": 0}] * 4
    arguments = t.TrainingArguments(
        tmp_path, max_steps=1, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, seed=0,
        neftune_noise_alpha=5.0,
    )  # fmt: skip
    model = make()
    t.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Compare()]).train()
    assert 0 < noises[0] <= 5.0 / (6 * H) ** 0.5
    ids = torch.arange(6)[None]
    assert torch.equal(model.get_input_embeddings()(ids), model.get_input_embeddings().weight[ids])


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
@ALL
def test_peft_trains_adapters_and_head_alone_and_they_come_back(make, task_type, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    base = make().eval()
    before = {name: x.clone() for name, x in base.state_dict().items()}
    target = ["ff.layer_1"] if isinstance(base, XLNetLongClassifier) else ["query", "value"]
    lora = LoraConfig(r=2, target_modules=target, modules_to_save=["classifier"], task_type=task_type)
    model = get_peft_model(base, lora)
    start = logits(model)
    trainer = trained(model, tmp_path, max_steps=4)
    assert (logits(model.eval()) - start).abs().max() > 1e-3
    for name, p in model.named_parameters():
        assert p.requires_grad == ("lora_" in name or "modules_to_save" in name), name
    frozen = {
        n.removeprefix("base_model.model.").replace(".base_layer", ""): p for n, p in model.named_parameters()
    }
    assert all(torch.equal(before[name], p) for name, p in frozen.items() if name in before)
    trainer.save_model(tmp_path / "adapter")
    again = PeftModel.from_pretrained(make().eval(), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(again), logits(model))
    merged = again.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(type(base).from_pretrained(tmp_path / "merged")), logits(merged))


def test_peft_with_gradient_checkpointing(tmp_path):
    from peft import LoraConfig, get_peft_model

    base = CLASSIFIERS["mean"]()
    base.gradient_checkpointing_enable({"use_reentrant": True})
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    model.train()(**BATCH, labels=torch.tensor([0, 2])).loss.backward()
    reached = [
        n for n, p in model.named_parameters() if "lora_B" in n and p.grad is not None and p.grad.any()
    ]
    assert len(reached) == 4, "the reentrant form needs inputs that require a gradient"


def test_trainer_keeps_the_token_types(tmp_path):
    """Columns that ``forward`` does not name are dropped by Trainer without a word."""
    seen, model = [], CLASSIFIERS["mean"]()
    model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("token_type_ids")), with_kwargs=True
    )
    row = {"input_ids": [3, 4], "attention_mask": [1, 1], "token_type_ids": [0, 1], "labels": 0}
    trained(model, tmp_path, [row] * 4, max_steps=1)
    assert seen and all(types is not None and types[0].tolist() == [0, 1] for types in seen)


# ---------------------------------------------------------------- forward


@ALL
def test_head_bias_is_the_heads_bias_at_the_start(make):
    assert make(head_bias=-4.6).classifier.bias.tolist() == pytest.approx([-4.6] * 3)
    assert make(head_bias=torch.tensor([1.0, 2.0, 3.0])).classifier.bias.tolist() == [1.0, 2.0, 3.0]
    assert make(head_bias=(1, 2, 3)).classifier.bias.tolist() == [1.0, 2.0, 3.0]
    assert make().classifier.bias.tolist() == [0.0] * 3
    # an all-padding text has the vector 0, so that only the bias is left
    empty = make(head_bias=(1, 2, 3)).eval()(IDS[:1], attention_mask=torch.zeros_like(IDS[:1])).logits
    if not isinstance(make(), LastFourClassifier):
        assert empty.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    "bias",
    ["0.1", [1.0, 2.0], float("nan"), [1.0, 2.0, float("inf")], object()],
    ids=["a string", "too short", "NaN", "inf", "an object"],
)
def test_bad_head_bias_is_an_error(bias):
    with pytest.raises((TypeError, ValueError), match="^head_bias: .* accepted"):
        CLASSIFIERS["mean"](head_bias=bias)


@ALL
def test_a_tuple_where_it_is_asked_for(make):
    model = make().eval()
    loss, scores = model(**BATCH, labels=torch.tensor([0, 2]), return_dict=False)
    assert torch.equal(scores, logits(model)) and loss.ndim == 0


@pytest.mark.parametrize("name", ["mean", "last four"])
def test_states_are_returned_where_they_are_asked_for(name):
    model = CLASSIFIERS[name]().eval()
    out = model(**BATCH, output_hidden_states=True)
    expected = model.encoder(**BATCH, output_hidden_states=True).hidden_states
    assert len(out.hidden_states) == 5 and all(map(torch.equal, out.hidden_states, expected))
    assert model(**BATCH).hidden_states is None


@pytest.mark.parametrize("name", ["mean", "last four"])
def test_embeddings_in_place_of_ids(name):
    model = CLASSIFIERS[name]().eval()
    embedded = model.get_input_embeddings()(IDS)
    torch.testing.assert_close(logits(model, input_ids=None, inputs_embeds=embedded), logits(model))
    with pytest.raises(TypeError, match="^input_ids: None given, .* accepted"):
        model(attention_mask=MASK)


@pytest.mark.parametrize("name", ["XLNet", "windows"])
def test_inputs_that_would_not_be_cut_are_refused(name):
    with pytest.raises(TypeError, match="^position_ids: .* accepted"):
        CLASSIFIERS[name]()(**BATCH, position_ids=torch.arange(7)[None])


@pytest.mark.parametrize("name", ["mean", "last four"])
def test_several_texts_packed_into_one_row_are_refused(name):
    """Where positions start again, as DataCollatorWithFlattening writes them, the row is not one text."""
    model, ids = CLASSIFIERS[name]().eval(), IDS[:1]
    with pytest.raises(ValueError, match="^position_ids: .* accepted"):
        model(ids, position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2]]))
    packed = t.DataCollatorWithFlattening()([{"input_ids": [3, 4, 5]}, {"input_ids": [6, 7]}])
    with pytest.raises(ValueError, match="^position_ids: .* accepted"):
        model(packed["input_ids"], position_ids=packed["position_ids"])
    # padding may have any position, on either side
    right, left = torch.tensor([[0, 1, 2, 0, 0, 0, 0]]), torch.tensor([[5, 5, 5, 0, 1, 2, 3]])
    torch.testing.assert_close(
        model(ids, right.ne(0).long().index_fill(1, torch.tensor([0]), 1), position_ids=right).logits,
        model(ids[:, :3]).logits, rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    model(ids, torch.tensor([[0, 0, 0, 1, 1, 1, 1]]), position_ids=left)


# ---- Encoders as they come


@ALL
def test_an_encoder_that_returns_tuples(make):
    model = make().eval()
    expected = model(IDS, IDS.ne(0).long()).logits
    model.config.return_dict = False
    assert torch.equal(model(IDS, IDS.ne(0).long()).logits, expected)


def test_the_head_is_where_the_encoder_is():
    on_meta = encoder().to("meta")
    for model in (MeanPoolingClassifier(on_meta, 3), SlidingWindowClassifier(on_meta, 3, pool="attention")):
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_an_encoder_without_its_pooler_comes_back_without_it(tmp_path):
    torch.manual_seed(0)
    model = MeanPoolingClassifier(t.BertModel(t.BertConfig(**SIZE), add_pooling_layer=False), 3)
    model.save_pretrained(tmp_path)
    loaded = MeanPoolingClassifier.from_pretrained(tmp_path)
    assert loaded.encoder.pooler is None
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)


def test_relative_positions_alone_limit_no_window():
    relative = dict(position_biased_input=False, relative_attention=True, max_position_embeddings=4)
    model = SlidingWindowClassifier(encoder("DeBERTa", **relative), 3, window_length=7).eval()
    assert model(IDS).logits.shape == (2, 3)


@ALL
@pytest.mark.parametrize("average", [False, True], ids=["plain", "average"])
def test_what_the_trainer_saved_is_loaded_and_a_run_resumes_from_it(make, average, tmp_path):
    from tricks_lib.trainer import TricksArguments, TricksTrainer

    rows = [{"input_ids": row, "attention_mask": row.ne(0).long(), "labels": i} for i, row in enumerate(IDS)]
    given = dict(report_to="none", max_steps=4, save_steps=2, use_cpu=True, disable_tqdm=True)
    given |= dict(ema_decay=0.25) if average else {}

    def trained(checkpoint=None):
        trainer = TricksTrainer(make(), TricksArguments(str(tmp_path), **given), train_dataset=rows)
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer

    trainer = trained()
    trainer.save_model(tmp_path / "saved")
    loaded = type(trainer.model).from_pretrained(tmp_path / "saved")
    with trainer.average_parameters():
        assert torch.equal(loaded(IDS).logits, trainer.model.eval()(IDS).logits)
    resumed = trained(str(tmp_path / "checkpoint-2")).model
    assert all(map(torch.equal, resumed.parameters(), trainer.model.parameters()))
