"""Oracles: rates written out by hand for each family; ELECTRA's depths and timm's scales, written out, for
the ratios.
"""

import doctest
import inspect
import re
import warnings

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tricks_lib.layer_decay
from tricks_lib.layer_decay import layer_decay_groups, places

SIZE = dict(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=16,
)
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
DEBERTA = dict(
    relative_attention=True,
    position_buckets=4,
    norm_rel_ebd="layer_norm",
    conv_kernel_size=3,
    conv_act="gelu",
    pos_att_type=["c2p", "p2c"],
)
CONFIGS = {
    "BERT": lambda **k: transformers.BertConfig(**SIZE | k),
    "RoBERTa": lambda **k: transformers.RobertaConfig(**SIZE | k),
    "DeBERTa": lambda **k: transformers.DebertaConfig(
        **SIZE | dict(relative_attention=True, pos_att_type=["c2p", "p2c"]) | k
    ),
    "DeBERTa-v2": lambda **k: transformers.DebertaV2Config(**SIZE | DEBERTA | k),
    "ELECTRA": lambda **k: transformers.ElectraConfig(**SIZE | dict(embedding_size=4) | k),
    "DistilBERT": lambda **k: transformers.DistilBertConfig(
        **dict(vocab_size=20, dim=8, n_layers=3, n_heads=2, hidden_dim=8) | k
    ),
    "ALBERT": lambda **k: transformers.AlbertConfig(**SIZE | dict(embedding_size=4) | k),
    "XLNet": lambda **k: transformers.XLNetConfig(
        **dict(vocab_size=20, d_model=8, n_layer=3, n_head=2, d_inner=8) | k
    ),
    "GPT-2": lambda **k: transformers.GPT2Config(
        **dict(vocab_size=20, n_embd=8, n_layer=3, n_head=2, n_positions=16, **SPECIAL) | k
    ),
    "ModernBERT": lambda **k: transformers.ModernBertConfig(
        **SIZE | SPECIAL | dict(cls_token_id=1, sep_token_id=2) | k
    ),
    "Llama": lambda **k: transformers.LlamaConfig(**SIZE | SPECIAL | k),
    "XLM-RoBERTa-XL": lambda **k: transformers.XLMRobertaXLConfig(**SIZE | k),
    "MPNet": lambda **k: transformers.MPNetConfig(**SIZE | k),
    "GPT-NeoX": lambda **k: transformers.GPTNeoXConfig(**SIZE | SPECIAL | k),
    "OPT": lambda **k: transformers.OPTConfig(
        **SIZE | SPECIAL | dict(ffn_dim=8, word_embed_proj_dim=4, dropout=0.0) | k
    ),
    "CLIP text": lambda **k: transformers.CLIPTextConfig(**SIZE | SPECIAL | k),
}
# By hand, for three layers: a pattern of the encoder's own names -> the power of decay.
EXPECTED = {
    "BERT": {
        r"embeddings\.": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
        r"pooler\.": 0,
    },
    "RoBERTa": {
        r"embeddings\.": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
        r"pooler\.": 0,
    },
    "DeBERTa": {
        r"embeddings\.|encoder\.rel_embeddings": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
    },
    "DeBERTa-v2": {
        r"embeddings\.|encoder\.rel_embeddings|encoder\.LayerNorm": 3,
        r"encoder\.layer\.0\.|encoder\.conv\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
    },
    "ELECTRA": {
        r"embeddings\.|embeddings_project\.": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
    },
    "DistilBERT": {
        r"embeddings\.": 3,
        r"transformer\.layer\.0\.": 2,
        r"transformer\.layer\.1\.": 1,
        r"transformer\.layer\.2\.": 0,
    },
    "ALBERT": {
        r"embeddings\.|encoder\.embedding_hidden_mapping_in\.": 3,
        r"encoder\.albert_layer_groups\.0\.": 0,
        r"pooler\.": 0,
    },
    "XLNet": {r"word_embedding\.|mask_emb": 3, r"layer\.0\.": 2, r"layer\.1\.": 1, r"layer\.2\.": 0},
    "GPT-2": {r"wte\.|wpe\.": 3, r"h\.0\.": 2, r"h\.1\.": 1, r"h\.2\.": 0, r"ln_f\.": 0},
    "ModernBERT": {
        r"embeddings\.": 3,
        r"layers\.0\.": 2,
        r"layers\.1\.": 1,
        r"layers\.2\.": 0,
        r"final_norm\.": 0,
    },
    "Llama": {r"embed_tokens\.": 3, r"layers\.0\.": 2, r"layers\.1\.": 1, r"layers\.2\.": 0, r"norm\.": 0},
    "XLM-RoBERTa-XL": {
        r"embeddings\.": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
        r"encoder\.LayerNorm\.|pooler\.": 0,
    },
    "MPNet": {
        r"embeddings\.|encoder\.relative_attention_bias\.": 3,
        r"encoder\.layer\.0\.": 2,
        r"encoder\.layer\.1\.": 1,
        r"encoder\.layer\.2\.": 0,
        r"pooler\.": 0,
    },
    "GPT-NeoX": {
        r"embed_in\.": 3,
        r"layers\.0\.": 2,
        r"layers\.1\.": 1,
        r"layers\.2\.": 0,
        r"final_layer_norm\.": 0,
    },
    "OPT": {
        r"decoder\.(?:embed_tokens|embed_positions|project_in)\.": 3,
        r"decoder\.layers\.0\.": 2,
        r"decoder\.layers\.1\.": 1,
        r"decoder\.layers\.2\.": 0,
        r"decoder\.(?:final_layer_norm|project_out)\.": 0,
    },
    "CLIP text": {
        r"(?:text_model\.)?embeddings\.": 3,
        r"(?:text_model\.)?encoder\.layers\.0\.": 2,
        r"(?:text_model\.)?encoder\.layers\.1\.": 1,
        r"(?:text_model\.)?encoder\.layers\.2\.": 0,
        r"(?:text_model\.)?final_layer_norm\.": 0,
    },
}
FAMILIES = pytest.mark.parametrize("family", CONFIGS)
HEADS = pytest.mark.parametrize("family", [f for f in CONFIGS if f != "CLIP text"])  # which has none


def encoder(family="BERT", **config):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(CONFIGS[family](**config))


class Deep(nn.Module):
    """A user's module with the encoder three modules down, and a head before and after it."""

    def __init__(self, inner):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.body = nn.ModuleDict({"text": nn.Sequential(inner)})
        self.norm = nn.LayerNorm(8)
        self.classifier = nn.Linear(8, 2)


def rates(groups) -> dict[int, float]:
    """id of each parameter -> its rate; a parameter in two groups is an error here."""
    found = {}
    for group in groups:
        assert group["params"], f"group {group['name']} is empty"
        for p in group["params"]:
            assert id(p) not in found, "a parameter is in two groups"
            found[id(p)] = group["lr"]
    return found


def names(model, groups, key="lr") -> dict[str, float]:
    by_id = {id(p): group[key] for group in groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters()}


def test_examples_of_the_docstrings_hold():
    assert doctest.testmod(tricks_lib.layer_decay).failed == 0


def run_order(model, **inputs) -> dict[int, list[int]]:
    """id of each parameter -> when its module ran in a forward pass."""
    ran, handles = [], []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(lambda module, args: ran.append(module)))
    with torch.no_grad():
        model.eval()(**inputs)
    for handle in handles:
        handle.remove()
    when = {}
    for i, module in enumerate(ran):
        for p in module.parameters(recurse=False):
            when.setdefault(id(p), []).append(i)
    return when


def out_of_order(model, found, **inputs) -> list[str]:
    """Parameters whose place contradicts the order in which the model ran."""
    when, layers, wrong = run_order(model, **inputs), {}, []
    for place in found:
        if place.part == "layer":
            layers.setdefault(place.layer, []).extend(when.get(id(place.parameter), []))
    starts = [min(layers[i]) for i in sorted(layers) if layers[i]]
    if starts != sorted(starts) and len(starts) == len(layers):
        wrong.append(f"layers start at {starts}")
    first, last = min(starts), max(max(ran) for ran in layers.values() if ran)
    for place in found:
        ran = when.get(id(place.parameter), [])
        before, after = any(i > first for i in ran), any(i < last for i in ran)
        if (place.part == "embeddings" and before) or (place.part == "top" and after):
            wrong.append(place.name)
    return wrong


IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])


@pytest.mark.parametrize("family", [f for f in CONFIGS if f != "ALBERT"])
def test_the_order_in_which_the_model_runs_agrees(family):
    """Oracle: the forward pass. Embeddings run before the first layer, the top after the last one."""
    model = encoder(family)
    assert out_of_order(model, places(model), input_ids=IDS) == []


def test_the_oracle_sees_a_norm_at_the_wrong_end():
    """What runs after the last layer is not the embeddings': the defect itself, for XLM-RoBERTa-XL."""
    model = encoder("XLM-RoBERTa-XL")
    found = [
        place._replace(part="embeddings") if "encoder.LayerNorm" in place.name else place
        for place in places(model)
    ]
    assert out_of_order(model, found, input_ids=IDS) == ["encoder.LayerNorm.weight", "encoder.LayerNorm.bias"]


@FAMILIES
def test_rates_equal_those_written_out_by_hand(family):
    model = encoder(family)
    found = rates(layer_decay_groups(model, lr=2e-5, decay=0.9))
    for name, p in model.named_parameters():
        [power] = [power for pattern, power in EXPECTED[family].items() if re.match(pattern, name)]
        assert found[id(p)] == pytest.approx(2e-5 * 0.9**power, rel=1e-12), name
    assert len(found) == len(list(model.parameters()))


@FAMILIES
def test_every_trainable_parameter_is_in_exactly_one_group_at_any_depth(family):
    inner = encoder(family)
    model = Deep(inner)
    groups = layer_decay_groups(model, lr=1e-3, decay=0.8, head_lr=7.0)
    found, alone = rates(groups), rates(layer_decay_groups(inner, lr=1e-3, decay=0.8))
    assert set(found) == {id(p) for p in model.parameters()}
    assert all(found[i] == rate for i, rate in alone.items()), "the rates depend on where the encoder stands"
    assert all(
        found[id(p)] == 7.0 for part in (model.first, model.norm, model.classifier) for p in part.parameters()
    )


@HEADS
@pytest.mark.parametrize(
    "task", [transformers.AutoModelForSequenceClassification, transformers.AutoModelForTokenClassification]
)
def test_models_with_a_head_of_transformers(family, task):
    if CONFIGS[family]().__class__ not in task._model_mapping:
        pytest.skip("transformers has no such model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = task.from_config(CONFIGS[family]())
    found = rates(layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0))
    inner = {id(p): name for name, p in model.base_model.named_parameters()}
    for name, p in model.named_parameters():
        power = next(
            (
                power
                for pattern, power in EXPECTED[family].items()
                if re.match(pattern, inner.get(id(p), "?"))
            ),
            None,
        )
        assert found[id(p)] == (9.0 if id(p) not in inner else 0.5**power), name


def test_the_top_layer_gets_the_full_rate_and_the_snippets_missing_parameters_are_there():
    """``for layer in range(12, -1, -1)``: nothing in layer 12, lr * 0.95 for the top layer, seven tensors
    never trained.
    """
    model = Deep(encoder(num_hidden_layers=12))

    def get_parameters(lr, multiplier, classifier_lr):
        groups = []
        for layer in range(12, -1, -1):
            groups.append(
                {
                    "params": [p for n, p in model.named_parameters() if f"encoder.layer.{layer}." in n],
                    "lr": lr,
                }
            )
            lr *= multiplier
        named = [
            p
            for n, p in model.named_parameters()
            if "layer_norm" in n or "first" in n or "norm" in n or "classifier" in n
        ]
        return groups + [{"params": named, "lr": classifier_lr}]

    circulating = get_parameters(1.0, 0.95, 2.0)
    assert circulating[0]["params"] == []
    missing = {id(p) for p in model.parameters()} - {id(p) for g in circulating for p in g["params"]}
    assert len(missing) == 7
    ours = names(model, layer_decay_groups(model, lr=1.0, decay=0.95, head_lr=2.0))
    top, bottom = (
        "body.text.0.encoder.layer.11.output.dense.weight",
        "body.text.0.encoder.layer.0.output.dense.weight",
    )
    assert ours[top] == 1.0 and ours[bottom] == pytest.approx(0.95**11)
    assert (
        ours["body.text.0.embeddings.LayerNorm.weight"] == pytest.approx(0.95**12)
        and ours["body.text.0.pooler.dense.weight"] == 1.0
    )


@pytest.mark.parametrize("family", [f for f in CONFIGS if f not in ("ALBERT",)])
def test_layer_1_is_not_mixed_up_with_layers_10_to_13(family):
    key = {"DistilBERT": "n_layers", "XLNet": "n_layer", "GPT-2": "n_layer"}.get(family, "num_hidden_layers")
    model = encoder(family, **{key: 14})
    for name, rate in names(model, layer_decay_groups(model, lr=1.0, decay=0.9)).items():
        if numbered := re.search(r"(?:^|\.)(?:layers?|h)\.(\d+)\.", name):
            assert rate == pytest.approx(0.9 ** (13 - int(numbered[1]))), name


def test_ratios_between_layers_equal_electras_and_timms():
    n, decay = 6, 0.75
    model = encoder(num_hidden_layers=n)
    ours = {g["name"]: g["lr"] for g in layer_decay_groups(model, lr=1.0, decay=decay)}
    # google-research/electra, model/optimization.py: depth 0 embeddings, i + 1 layer i, n + 2 head; lr *
    # decay ** (n + 2 - depth)
    electra = {"embeddings": decay ** (n + 2), **{f"layer {i}": decay ** (n + 2 - (i + 1)) for i in range(n)}}
    # timm, optim/_param_groups.py: decay ** (layer_max - id), ids from 0 at the stem to layer_max at the head
    timm = {"embeddings": decay ** (n + 1), **{f"layer {i}": decay ** (n + 1 - (i + 1)) for i in range(n)}}
    for theirs in (electra, timm):
        for name, scale in theirs.items():
            assert ours[name] / ours["layer 0"] == pytest.approx(scale / theirs["layer 0"], rel=1e-12)


@pytest.mark.parametrize("layers, groups", [(12, 1), (12, 3), (12, 5), (7, 2), (4, 4)])
def test_albert_shared_layers_take_the_rate_of_their_topmost_use(layers, groups):
    model = encoder("ALBERT", num_hidden_layers=layers, num_hidden_groups=groups)
    topmost = {}
    for i in range(layers):  # transformers, AlbertTransformer.forward
        topmost[int(i / (layers / groups))] = i
    found = names(model, layer_decay_groups(model, lr=1.0, decay=0.9))
    for group, i in topmost.items():
        rate = found[f"encoder.albert_layer_groups.{group}.albert_layers.0.ffn.weight"]
        assert rate == pytest.approx(0.9 ** (layers - 1 - i))
    assert found["embeddings.word_embeddings.weight"] == pytest.approx(0.9**layers)


def test_albert_group_that_no_layer_uses_is_an_error():
    model = encoder("ALBERT", num_hidden_layers=2, num_hidden_groups=3)
    with pytest.raises(ValueError, match="^model: parameter 'encoder.albert_layer_groups.2"):
        layer_decay_groups(model, lr=1.0)


@FAMILIES
def test_no_weight_decay_on_biases_and_norms(family):
    """``'layer_norm' in n`` matches no ``LayerNorm``; XLNet's biases are matrices."""
    model = Deep(encoder(family))
    found = names(model, layer_decay_groups(model, lr=1.0, weight_decay=0.1), "weight_decay")
    for name, p in model.named_parameters():
        plain = name.endswith("bias") or re.search(r"norm|ln_", name.lower()) is not None
        assert found[name] == (0.0 if plain else 0.1), name
    assert found["norm.weight"] == found["first.bias"] == 0.0 and found["first.weight"] == 0.1


def test_a_norm_whose_weight_is_a_matrix_is_not_decayed():
    model = nn.ModuleDict({"encoder": encoder(), "head": nn.LayerNorm([4, 8])})
    assert (
        names(model, layer_decay_groups(model, lr=1.0, weight_decay=0.1), "weight_decay")["head.weight"]
        == 0.0
    )


def test_frozen_parameters_are_left_out_and_leave_no_empty_group():
    model = Deep(encoder(num_hidden_layers=4))
    inner = model.body["text"][0]
    inner.embeddings.requires_grad_(False)
    inner.encoder.layer[1].requires_grad_(False)
    groups = layer_decay_groups(model, lr=1.0, decay=0.5)
    assert set(rates(groups)) == {id(p) for p in model.parameters() if p.requires_grad}
    assert [g["name"] for g in groups] == ["layer 0", "layer 2", "layer 3", "top", "head"]
    assert [g["lr"] for g in groups] == [0.125, 0.5, 1.0, 1.0, 1.0], "frozen layers still count"


def test_tied_output_layer_takes_the_rate_of_the_embeddings():
    for model in (
        transformers.BertForMaskedLM(CONFIGS["BERT"]()),
        transformers.GPT2LMHeadModel(CONFIGS["GPT-2"]()),
        transformers.XLNetLMHeadModel(CONFIGS["XLNet"]()),
    ):
        table = model.get_input_embeddings().weight
        assert model.get_output_embeddings().weight is table
        found = rates(layer_decay_groups(model, lr=1.0, decay=0.5))
        assert found[id(table)] == 0.125 and len(found) == len(list(model.parameters()))


def test_a_head_tied_to_the_embeddings_and_listed_before_them():
    inner = encoder()
    model = nn.Sequential(nn.Linear(8, 20, bias=False), inner)
    model[0].weight = inner.embeddings.word_embeddings.weight
    assert rates(layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=5.0))[id(model[0].weight)] == 0.125


def test_two_encoders_of_different_depth_each_by_their_own_count():
    model = nn.ModuleDict(
        {"text": encoder(num_hidden_layers=2), "title": encoder("XLNet", n_layer=4), "head": nn.Linear(16, 2)}
    )
    found = names(model, layer_decay_groups(model, lr=1.0, decay=0.5))
    assert (
        found["text.embeddings.word_embeddings.weight"] == 0.25
        and found["title.word_embedding.weight"] == 0.0625
    )
    assert (
        found["text.encoder.layer.0.output.dense.weight"] == 0.5
        and found["title.layer.0.ff.layer_1.weight"] == 0.125
    )
    assert set(rates(layer_decay_groups(model, lr=1.0))) == {id(p) for p in model.parameters()}


def test_siamese_encoder_is_counted_once():
    inner = encoder()
    model = nn.ModuleDict({"left": inner, "right": inner, "head": nn.Linear(8, 2)})
    assert set(rates(layer_decay_groups(model, lr=1.0))) == {id(p) for p in model.parameters()}


def test_encoder_inside_a_users_pretrained_model():
    class Mine(transformers.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.backbone = transformers.BertModel(
                config
            )  # not "bert", the name that transformers would find
            self.head = nn.Linear(8, 2)

    found = names(model := Mine(CONFIGS["BERT"]()), layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0))
    assert found["head.weight"] == 9.0 and found["backbone.embeddings.LayerNorm.bias"] == 0.125


def test_layers_cut_off_are_not_counted():
    model = encoder(num_hidden_layers=6)
    model.encoder.layer = model.encoder.layer[:2]
    assert (
        names(model, layer_decay_groups(model, lr=1.0, decay=0.5))["encoder.layer.1.output.dense.weight"]
        == 1.0
    )


def test_package_classifiers_work():
    from tricks_lib.last_four import LastFourClassifier
    from tricks_lib.mean_pooling import MeanPoolingClassifier

    for model in (MeanPoolingClassifier(encoder(), 2), LastFourClassifier(encoder(num_hidden_layers=4), 2)):
        found = names(model, layer_decay_groups(model, lr=1.0, head_lr=3.0))
        assert found["classifier.weight"] == found["classifier.bias"] == 3.0
        assert set(found) == {name for name, _ in model.named_parameters()}


def test_head_takes_lr_unless_it_has_its_own():
    model = Deep(encoder())
    assert names(model, layer_decay_groups(model, lr=0.3))["classifier.weight"] == 0.3
    assert names(model, layer_decay_groups(model, lr=0.3, head_lr=0.0))["classifier.weight"] == 0.0


def test_one_sgd_step_moves_each_layer_by_its_rate():
    """Functional: the optimizer is given unit gradients; what moves is the rate itself."""
    model = Deep(encoder().double())
    before = [p.detach().clone() for p in model.parameters()]
    groups = layer_decay_groups(model, lr=0.1, decay=0.5)
    expected = names(model, groups)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(groups).step()
    for (name, p), old in zip(model.named_parameters(), before):
        torch.testing.assert_close(old - p.detach(), torch.full_like(p, expected[name]), rtol=1e-5, atol=1e-8)


def test_state_of_the_optimizer_survives_saving_and_schedulers_keep_the_ratios(tmp_path):
    model = encoder()

    def adamw():
        optimizer = torch.optim.AdamW(layer_decay_groups(model, lr=1e-3, decay=0.5, weight_decay=0.01))
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    optimizer, schedule = adamw()
    model(torch.tensor([[1, 2]])).pooler_output.sum().backward()
    optimizer.step()
    schedule.step()
    assert {g["name"]: g["lr"] for g in optimizer.param_groups}["layer 0"] == pytest.approx(1e-3 * 0.25 / 2)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    again, _ = adamw()
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_groups_hold_the_parameters_themselves_on_cuda():
    model = encoder().cuda()
    assert all(p.is_cuda for g in layer_decay_groups(model, lr=1.0) for p in g["params"])


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 15),
    decay=st.floats(0.05, 1.0),
    lr=st.floats(1e-7, 10),
    frozen=st.sets(st.integers(0, 14)),
    wd=st.sampled_from([0.0, 0.1]),
)
def test_groups_are_a_partition_and_rates_grow_towards_the_output(n, decay, lr, frozen, wd):
    model = Deep(encoder("GPT-2", n_layer=n))
    for i in frozen & set(range(n)):
        model.body["text"][0].h[i].requires_grad_(False)
    groups = layer_decay_groups(model, lr=lr, decay=decay, weight_decay=wd)
    assert set(rates(groups)) == {id(p) for p in model.parameters() if p.requires_grad}
    by_layer = [next((g["lr"] for g in groups if g["name"] == f"layer {i}"), None) for i in range(n)]
    assert [i for i in range(n) if by_layer[i] is None] == sorted(frozen & set(range(n)))
    kept = [rate for rate in by_layer if rate is not None]
    assert kept == sorted(kept) and all(0 < rate <= lr for rate in kept)


class Extra(transformers.BertModel):
    """A BERT with something in it that is neither embedding nor layer."""

    def __init__(self, config):
        super().__init__(config)
        self.adapter = nn.Linear(2, 2)


def test_parameter_without_a_layer_is_an_error_that_names_it_unless_it_is_frozen():
    model = Deep(Extra(CONFIGS["BERT"]()))
    with pytest.raises(
        ValueError, match=r"^model: parameter 'body.text.0.adapter.weight' .* Extra.* accepted"
    ):
        layer_decay_groups(model, lr=1.0)
    model.body["text"][0].adapter.requires_grad_(False)
    assert set(rates(layer_decay_groups(model, lr=1.0))) == {
        id(p) for p in model.parameters() if p.requires_grad
    }


def test_substrings_of_known_names_are_not_known():
    model = encoder()
    model.register_parameter("embeddings_of_mine", nn.Parameter(torch.ones(2)))
    with pytest.raises(ValueError, match="^model: parameter 'embeddings_of_mine'"):
        layer_decay_groups(model, lr=1.0)


# ---------------------------------------------------------------- encoder and decoder


def t5(**config):
    sizes = dict(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=3, num_decoder_layers=2, num_heads=2)
    return transformers.T5Model(transformers.T5Config(**sizes | config))


def bart():
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
    return transformers.BartModel(
        transformers.BartConfig(
            vocab_size=20, d_model=8, encoder_layers=3, decoder_layers=2, **heads, **SPECIAL
        )
    )


BOTH = {
    t5: {
        r"shared\.|encoder\.embed_tokens\.": 3,
        r"encoder\.block\.0\.": 2,
        r"encoder\.block\.1\.": 1,
        r"encoder\.block\.2\.|encoder\.final_layer_norm\.": 0,
        r"decoder\.block\.0\.": 1,
        r"decoder\.block\.1\.|decoder\.final_layer_norm\.": 0,
    },
    bart: {
        r"shared\.|encoder\.embed_positions\.|encoder\.layernorm_embedding\.": 3,
        r"encoder\.layers\.0\.": 2,
        r"encoder\.layers\.1\.": 1,
        r"encoder\.layers\.2\.": 0,
        r"decoder\.embed_positions\.|decoder\.layernorm_embedding\.": 2,
        r"decoder\.layers\.0\.": 1,
        r"decoder\.layers\.1\.": 0,
    },
}


@pytest.mark.parametrize("make", BOTH, ids=lambda f: f.__name__)
def test_encoder_and_decoder_are_numbered_each_by_itself(make):
    model = make()
    found = names(model, layer_decay_groups(model, lr=1.0, decay=0.5))
    for name, rate in found.items():
        [power] = [power for pattern, power in BOTH[make].items() if re.match(pattern, name)]
        assert rate == 0.5**power, name
    assert set(rates(layer_decay_groups(model, lr=1.0))) == {id(p) for p in model.parameters()}


def test_heads_of_encoder_decoder_models_are_heads():
    model = transformers.BartForSequenceClassification(bart().config)
    found = names(model, layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0))
    assert {name for name, rate in found.items() if rate == 9.0} == {
        name for name, _ in model.named_parameters() if name.startswith("classification_head.")
    }


def test_a_norm_called_of_the_embedding_that_runs_after_the_layers_is_at_the_top():
    """BigBird-Pegasus calls its final norm ``layernorm_embedding``."""
    config = transformers.BigBirdPegasusConfig(
        vocab_size=20, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, attention_type="original_full",
    )  # fmt: skip
    model = transformers.BigBirdPegasusModel(config)
    found = names(model, layer_decay_groups(model, lr=1.0, decay=0.5))
    assert found["encoder.layernorm_embedding.weight"] == found["decoder.layernorm_embedding.bias"] == 1.0


@pytest.mark.slow
def test_no_architecture_of_transformers_is_silently_out_of_order():
    """Every text model that transformers builds from a tiny config is placed as it runs, or refused."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    sizes = SIZE | SPECIAL | dict(d_model=8, n_layer=3, n_layers=3, num_layers=3, n_head=2, n_heads=2)
    sizes |= dict(num_heads=2, dim=8, hidden_dim=8, d_ff=8, d_kv=4, d_inner=8, n_embd=8, n_positions=16)
    sizes |= dict(encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=8, embedding_size=8)
    sizes |= dict(ffn_dim=8, num_key_value_heads=2, head_dim=4, decoder_layers=0)
    placed, wrong = [], {}
    for name in CONFIG_MAPPING:
        try:
            cls = CONFIG_MAPPING[name]
            known = {*inspect.signature(cls.__init__).parameters, *getattr(cls, "attribute_map", {})}
            known |= {*getattr(cls, "__dataclass_fields__", {})}
            config = cls(**{key: value for key, value in sizes.items() if key in known})
            if config.is_encoder_decoder or config.vocab_size != 20 or config.num_hidden_layers != 3:
                continue
            with torch.device("meta"):
                small = sum(p.numel() for p in transformers.AutoModel.from_config(config).parameters()) < 1e6
            model = transformers.AutoModel.from_config(config) if small and name != "albert" else None
            found = places(model)
            bad = out_of_order(model, found, input_ids=IDS)
        except Exception:  # it needs another size or other inputs, or is refused by name
            continue
        depth = 1 + max(place.layer or 0 for place in found)
        heads = [place.name for place in found if place.part == "head"]
        placed.append(name)
        if bad or heads or depth != 3:
            wrong[name] = (bad, heads, depth)
    assert not wrong
    assert len(placed) >= 60, placed


# ---------------------------------------------------------------- adapters


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("family", ["BERT", "MPNet", "GPT-2", "XLNet", "ModernBERT", "Llama"])
@pytest.mark.parametrize("around", ["the classifier", "the encoder"])
def test_adapters_take_the_rate_of_the_layer_that_they_stand_in(family, around):
    from peft import LoraConfig, get_peft_model

    from tricks_lib.mean_pooling import MeanPoolingClassifier

    lora = LoraConfig(r=2, target_modules="all-linear", modules_to_save=["classifier"])
    if around == "the classifier":
        model = get_peft_model(MeanPoolingClassifier(encoder(family), 2), lora)
    else:
        lora.modules_to_save = None
        model = MeanPoolingClassifier(get_peft_model(encoder(family), lora), 2)
    found = rates(layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0))
    seen = set()
    for name, p in model.named_parameters():
        assert (id(p) in found) == p.requires_grad, name
        if not p.requires_grad:
            continue
        if "classifier" in name:
            seen.add("head")
            assert found[id(p)] == 9.0
        elif numbered := re.search(r"\.(?:layers?|h)\.(\d+)\.", name):
            seen.add(int(numbered[1]))
            assert found[id(p)] == 0.5 ** (2 - int(numbered[1])), name
        else:
            assert "pooler" in name and found[id(p)] == 1.0, name
    assert seen >= {0, 1, 2, "head"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_models_with_a_head_of_transformers():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        transformers.BertForSequenceClassification(CONFIGS["BERT"]()),
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]),
    )
    groups = {g["name"]: g["lr"] for g in layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0)}
    assert groups == {"layer 0": 0.25, "layer 1": 0.5, "layer 2": 1.0, "head": 9.0}


# ---------------------------------------------------------------- a map of one's own, a floor


class Plain(nn.Module):
    """No Hugging Face model: a table, three blocks, a head."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 2)


def block(name):
    if name.startswith("table."):
        return -1
    return int(name.split(".")[1]) if name.startswith("blocks.") else None


def test_a_map_of_ones_own_serves_any_module():
    model = Plain()
    groups = layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=9.0, weight_decay=0.1, layer_of=block)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups if g["weight_decay"]] == [
        ("embeddings", 0.125, 0.1),
        ("layer 0", 0.25, 0.1),
        ("layer 1", 0.5, 0.1),
        ("layer 2", 1.0, 0.1),
        ("head", 9.0, 0.1),
    ]
    assert set(rates(groups)) == {id(p) for p in model.parameters()}
    with pytest.raises(ValueError, match="^model: Plain holds no encoder; .* accepted"):
        layer_decay_groups(model, lr=1.0)


def test_the_map_comes_before_the_rules_and_none_leaves_it_to_them():
    model, plain = Deep(Extra(CONFIGS["BERT"]())), Deep(encoder())
    groups = layer_decay_groups(
        model, lr=1.0, decay=0.5, head_lr=9.0, layer_of=lambda name: 1 if ".adapter." in name else None
    )
    found = names(model, groups)
    assert found.pop("body.text.0.adapter.weight") == found.pop("body.text.0.adapter.bias") == 0.5
    assert found == names(plain, layer_decay_groups(plain, lr=1.0, decay=0.5, head_lr=9.0))


def test_layers_that_the_map_puts_above_the_encoder_push_its_own_down():
    model = nn.ModuleDict({"encoder": encoder(), "more": nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])})
    found = names(
        model,
        layer_decay_groups(
            model,
            lr=1.0,
            decay=0.5,
            layer_of=lambda n: 3 + int(n.split(".")[1]) if n.startswith("more") else None,
        ),
    )
    assert found["more.1.weight"] == 1.0 and found["more.0.weight"] == 0.5
    assert found["encoder.encoder.layer.2.output.dense.weight"] == 0.25
    assert found["encoder.embeddings.word_embeddings.weight"] == 0.5**5


def test_rates_do_not_fall_below_the_floor():
    model = Deep(encoder(num_hidden_layers=12))
    found = {
        g["name"]: g["lr"] for g in layer_decay_groups(model, lr=1.0, decay=0.5, head_lr=0.0, min_lr=2**-4)
    }
    assert found["head"] == 0.0, "the head has its own rate"
    assert [found[f"layer {i}"] for i in range(12)] == [max(2**-4, 0.5 ** (11 - i)) for i in range(12)]
    assert found["embeddings"] == 2**-4 and found["top"] == 1.0


# ---------------------------------------------------------------- bad input


def frozen():
    return encoder().requires_grad_(False)


BAD_INPUT = {
    "model is None": (dict(model=lambda: None), TypeError, "model"),
    "model is a name": (dict(model=lambda: "bert-base-uncased"), TypeError, "model"),
    "model is a list of parameters": (dict(model=lambda: list(encoder().parameters())), TypeError, "model"),
    "model without an encoder": (dict(model=lambda: nn.Linear(2, 2)), ValueError, "model"),
    "model without a parameter": (dict(model=lambda: nn.ReLU()), ValueError, "model"),
    "model all frozen": (dict(model=frozen), ValueError, "model"),
    "lr is negative": (dict(lr=-1e-5), ValueError, "lr"),
    "lr is NaN": (dict(lr=float("nan")), ValueError, "lr"),
    "lr is infinite": (dict(lr=float("inf")), ValueError, "lr"),
    "lr is a word": (dict(lr="1e-5"), TypeError, "lr"),
    "lr is None": (dict(lr=None), TypeError, "lr"),
    "lr is a bool": (dict(lr=True), TypeError, "lr"),
    "lr is a tensor": (dict(lr=torch.tensor(0.1)), TypeError, "lr"),
    "decay is 0": (dict(decay=0.0), ValueError, "decay"),
    "decay is negative": (dict(decay=-0.9), ValueError, "decay"),
    "decay is above 1, as ULMFiT writes it": (dict(decay=2.6), ValueError, "decay"),
    "decay is NaN": (dict(decay=float("nan")), ValueError, "decay"),
    "decay is a list": (dict(decay=[0.9, 0.8]), TypeError, "decay"),
    "head_lr is negative": (dict(head_lr=-1.0), ValueError, "head_lr"),
    "head_lr is infinite": (dict(head_lr=float("inf")), ValueError, "head_lr"),
    "head_lr is a word": (dict(head_lr="2e-4"), TypeError, "head_lr"),
    "layer_of is a dict": (dict(layer_of={}), TypeError, "layer_of"),
    "layer_of gives a word": (dict(layer_of=lambda name: "0"), TypeError, "layer_of"),
    "layer_of gives a number below -1": (dict(layer_of=lambda name: -2), ValueError, "layer_of"),
    "min_lr is above lr": (dict(min_lr=1e-4), ValueError, "min_lr"),
    "min_lr is negative": (dict(min_lr=-1e-9), ValueError, "min_lr"),
    "min_lr is a word": (dict(min_lr="0"), TypeError, "min_lr"),
    "weight_decay is negative": (dict(weight_decay=-0.1), ValueError, "weight_decay"),
    "weight_decay is NaN": (dict(weight_decay=float("nan")), ValueError, "weight_decay"),
    "weight_decay is None": (dict(weight_decay=None), TypeError, "weight_decay"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    changes, error, name = BAD_INPUT[case]
    arguments = {"model": encoder, "lr": 1e-5, **changes}
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        layer_decay_groups(arguments.pop("model")(), **arguments)
