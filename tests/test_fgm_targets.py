"""What is attacked in models of transformers and PEFT.

Oracles: gradients of ``torch.autograd.grad``, and the model's own ``inputs_embeds`` in place of its look-ups.
"""

import peft
import pytest
import torch
import transformers
from torch import nn

from tricks_lib.fgm import AWP, FGM, PGD, FreeLB, RandomDirection
from tricks_lib.trainer.attacks import make_attack

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # asked by peft

IDS, OTHER = torch.tensor([[3, 4, 5], [6, 7, 1]]), torch.tensor([[8, 9, 2], [10, 11, 1]])
LABELS = torch.tensor([0, 1])
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}  # fmt: skip


def bert(V=20, kind="BertModel"):
    return getattr(transformers, kind)(transformers.BertConfig(vocab_size=V, **BERT))


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(model, clean):
    return [name for name, value in model.named_parameters() if not torch.equal(value, clean[name])]


def unit_per_example(gradient):
    return gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1)


# ---- Two towers ----


class Words(nn.Module):
    """A tower of one's own, without ``get_input_embeddings``."""

    def __init__(self, V=20):
        super().__init__()
        self.words, self.positions = nn.Embedding(V, 16), nn.Embedding(8, 16)

    def forward(self, input_ids):
        embedded = self.words(input_ids) + self.positions(torch.arange(3))
        return torch.tanh(embedded).mean(1)


TOWERS = {
    "of transformers": lambda: [bert(), bert(30)],
    "classifiers": lambda: [bert(kind="BertForSequenceClassification") for _ in "ab"],
    "of one's own": lambda: [Words(), Words()],
}


@pytest.fixture(params=TOWERS)
def towers(request):
    torch.manual_seed(0)
    return nn.ModuleDict(zip(("query", "passage"), TOWERS[request.param]())).eval().double()


def similarity(towers):
    def encode(tower, ids):
        output = tower(ids)
        return output if isinstance(output, torch.Tensor) else output[-1]

    return -(encode(towers["query"], IDS) * encode(towers["passage"], OTHER)).tanh().mean()


def tables(towers):
    return [
        tower.words.weight if isinstance(tower, Words) else tower.get_input_embeddings().weight
        for tower in towers.values()
    ]


def test_every_tower_is_attacked_with_its_own_norm(towers):
    both = tables(towers)
    clean, before = [table.detach().clone() for table in both], weights(towers)
    gradients = torch.autograd.grad(similarity(towers), both)
    fgm = FGM(towers, epsilon=0.5)
    similarity(towers).backward()
    with fgm.perturbed():
        assert len(moved(towers, before)) == 2
        for table, start, gradient in zip(both, clean, gradients):
            torch.testing.assert_close(table.detach(), start + 0.5 * gradient / gradient.norm())
    assert moved(towers, before) == []


@pytest.mark.parametrize("kind", [FGM, PGD, RandomDirection])
def test_every_tower_is_attacked_per_example(towers, kind):
    options = {"alpha": 0.02} if kind is PGD else {}
    attack = kind(towers, epsilon=0.05, per_example=True, **options)
    before, clean = weights(towers), similarity(towers)
    clean.backward()
    with attack.perturbed():
        length = 0.02 if kind is PGD else 0.05
        assert moved(towers, before) == [] and len(attack._sites) == 2
        for site in attack._sites:
            torch.testing.assert_close(site.r.flatten(1).norm(dim=1), torch.full((2,), length).double())
        attacked = similarity(towers)
        assert kind is RandomDirection or attacked > clean
    assert similarity(towers) == clean != attacked


def test_tower_that_is_frozen_is_left_alone():
    towers = nn.ModuleDict({"query": bert(), "passage": bert().requires_grad_(False)})
    fgm, before = FGM(towers), weights(towers)
    similarity(towers).backward()
    with fgm.perturbed():
        assert moved(towers, before) == ["query.embeddings.word_embeddings.weight"]


def test_encoder_and_decoder_with_tables_of_their_own():
    torch.manual_seed(0)
    decoder = transformers.BertLMHeadModel(
        transformers.BertConfig(vocab_size=30, is_decoder=True, add_cross_attention=True, **BERT)
    )
    model = transformers.EncoderDecoderModel(encoder=bert(), decoder=decoder).eval()
    fgm, before = FGM(model, epsilon=0.5), weights(model)
    model(input_ids=IDS, decoder_input_ids=OTHER).logits.logsumexp(-1).mean().backward()
    with fgm.perturbed():
        assert moved(model, before) == [
            "encoder.embeddings.word_embeddings.weight",
            "decoder.bert.embeddings.word_embeddings.weight",
        ]


# ---- Encoders and decoders that share one table ----


def encoder_decoder(name):
    torch.manual_seed(0)
    kind = {"T5": transformers.T5Config, "BART": transformers.BartConfig}[name.split()[0]]
    config = kind(vocab_size=20, dropout_rate=0.0, **(T5 if kind is transformers.T5Config else BART))
    if name == "T5 encoder":
        return transformers.T5EncoderModel(config)
    return (
        transformers.T5ForConditionalGeneration
        if kind is transformers.T5Config
        else transformers.BartForConditionalGeneration
    )(config)


def loss_of(model, embeds=None, decoder_embeds=None):
    source = {"input_ids": IDS} if embeds is None else {"inputs_embeds": embeds}
    if isinstance(model, transformers.T5EncoderModel):
        return model(**source).last_hidden_state.sin().sum()
    target = (
        {"decoder_input_ids": OTHER} if decoder_embeds is None else {"decoder_inputs_embeds": decoder_embeds}
    )
    return model(**source, **target, labels=OTHER).loss


LOOKED_UP_TWICE = pytest.mark.skipif(
    transformers.__version__ < "5", reason="one module looks up for encoder and decoder: refused"
)


@pytest.mark.parametrize("name", [pytest.param("T5", marks=LOOKED_UP_TWICE), "BART", "T5 encoder"])
def test_shared_table_is_attacked_where_it_is_looked_up_per_example(name):
    """T5 and BART never call the module ``shared`` that ``get_input_embeddings`` gives."""
    model = encoder_decoder(name).eval().double()
    fgm = FGM(model, epsilon=0.5, per_example=True)
    looked_up = [model.get_encoder().embed_tokens(IDS)]
    if name != "T5 encoder":
        looked_up.append(model.get_decoder().embed_tokens(OTHER))
    looked_up = [each.detach().requires_grad_() for each in looked_up]
    gradients = torch.autograd.grad(loss_of(model, *looked_up), looked_up)
    expected = loss_of(model, *(e + 0.5 * unit_per_example(g) for e, g in zip(looked_up, gradients)))
    clean = loss_of(model)
    clean.backward()
    with fgm.perturbed():
        torch.testing.assert_close(loss_of(model), expected, rtol=1e-9, atol=0)
    assert loss_of(model) == clean < expected


@pytest.mark.parametrize("name", ["T5", "BART", "T5 encoder"])
def test_shared_table_is_attacked_once(name):
    model = encoder_decoder(name).eval().double()
    fgm, table = FGM(model, epsilon=0.5), model.get_input_embeddings().weight
    clean, (gradient,) = table.detach().clone(), torch.autograd.grad(loss_of(model), [table])
    for _ in range(2):  # the second time it is known whether all is by rows
        model.zero_grad()
        loss_of(model).backward()
        with fgm.perturbed():
            torch.testing.assert_close(table.detach(), clean + 0.5 * gradient / gradient.norm())
            by_rows = isinstance(fgm._sites[0].backup[0], torch.Tensor)
        assert by_rows == (name == "T5 encoder")  # in the others the output projection is tied to it
        assert torch.equal(table, clean)


# ---- Frozen tables and PEFT ----


def with_adapters(**options):
    torch.manual_seed(0)
    base = bert(kind="BertForSequenceClassification")
    config = peft.LoraConfig(r=2, task_type="SEQ_CLS", **{"target_modules": ["query"], **options})
    model = peft.get_peft_model(base, config).eval().double()
    for name, value in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(value, std=0.3)  # B begins at zero, where A has no gradient
    return model


def loss_of_classes(model, embeds=None):
    source = {"input_ids": IDS} if embeds is None else {"inputs_embeds": embeds}
    return model(**source, labels=LABELS).loss


@pytest.mark.parametrize("kind", [FGM, PGD, RandomDirection])
def test_frozen_embeddings_are_named_and_no_argument_that_nobody_gave(kind):
    name = "base_model.model.bert.embeddings.word_embeddings.weight"
    with pytest.raises(ValueError, match=f"^model: .* frozen .*{name}, given; .* accepted") as error:
        kind(with_adapters())
    assert "target" not in str(error.value)


@pytest.mark.parametrize("name", ["fgm", "pgd", "random"])
def test_the_trainer_names_its_option(name):
    with pytest.raises(ValueError, match=f"^adversarial: '{name}' given; .* frozen .* accepted"):
        make_attack(with_adapters(), name, None, per_example=False, relative=False)
    make_attack(with_adapters(), name, None, per_example=True, relative=False)


@pytest.mark.parametrize("kind", [FGM, PGD])
def test_under_lora_the_look_ups_are_attacked_and_the_adapters_trained(kind):
    model = with_adapters()
    attack, clean = kind(model, epsilon=0.5, per_example=True), weights(model)
    trainable = [value for value in model.parameters() if value.requires_grad]
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of_classes(model, embedded), [embedded])
    r = (0.5 if kind is FGM else attack.alpha) * unit_per_example(gradient)
    expected = [
        torch.autograd.grad(loss_of_classes(model, embedded + each), trainable) for each in (0 * r, r)
    ]
    loss_of_classes(model).backward()
    with attack.perturbed():
        loss_of_classes(model).backward()
    for value, *parts in zip(trainable, *expected):
        torch.testing.assert_close(value.grad, sum(parts))
    assert all(value.grad is None for value in model.parameters() if not value.requires_grad)
    assert moved(model, clean) == []


def test_freelb_under_lora():
    model = with_adapters()
    freelb, losses = FreeLB(model, epsilon=0.2, alpha=0.05, steps=3), []
    for _ in freelb.passes():
        losses.append(loss_of_classes(model))
        losses[-1].backward()
    assert losses[0] < losses[1] < losses[2]
    assert any("lora_" in name and value.grad.any() for name, value in model.named_parameters()
               if value.grad is not None)  # fmt: skip


def test_table_with_adapters_of_its_own_is_attacked_per_example():
    """What is looked up is the frozen table's row and the adapter's: r is added to their sum."""
    model = with_adapters(target_modules=["word_embeddings"])
    fgm, before = FGM(model, epsilon=0.5, per_example=True), loss_of_classes(model)
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of_classes(model, embedded), [embedded])
    before.backward()
    with fgm.perturbed():
        expected = loss_of_classes(model, embedded + 0.5 * unit_per_example(gradient))
        torch.testing.assert_close(loss_of_classes(model), expected)
    assert loss_of_classes(model) == before


def test_table_that_peft_trains_as_a_copy_is_attacked():
    model = with_adapters(modules_to_save=["word_embeddings", "classifier"])
    fgm, clean = FGM(model, epsilon=0.5), weights(model)
    loss_of_classes(model).backward()
    with fgm.perturbed():
        (name,) = moved(model, clean)
        assert "word_embeddings.modules_to_save" in name
        assert (dict(model.named_parameters())[name] - clean[name]).norm().item() == pytest.approx(0.5)


def test_awp_attacks_the_matrices_of_the_adapters():
    model = with_adapters()
    awp, clean = AWP(model, epsilon=0.01), weights(model)
    loss_of_classes(model).backward()
    with awp.perturbed():
        names = moved(model, clean)
        assert len(names) == 3 and all("lora_" in name or "classifier" in name for name in names)
        for name in names:
            r = dict(model.named_parameters())[name] - clean[name]
            assert r.norm().item() == pytest.approx(0.01 * clean[name].norm().item())
    assert moved(model, clean) == []


def test_image_models_have_no_input_embedding_to_attack():
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8,
        patch_size=4)  # fmt: skip
    with pytest.raises(
        ValueError, match="^model: CLIPVisionModel without input embeddings given, .* accepted"
    ):
        FGM(transformers.CLIPVisionModel(config))
