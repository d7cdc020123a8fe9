"""Oracles: equations (1)-(3) in float64 on gradients of ``torch.autograd.grad``; the circulating snippet
written out.
"""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tricks_lib.fgm import AWP, FGM, PGD, RandomDirection

from .ranks import run_ranks


class Net(nn.Module):
    """A text classifier; tied, it also predicts its own first token with the embedding table."""

    def __init__(self, V=20, H=4, tied=False, sparse=False, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens, self.positions = nn.Embedding(V, H, padding_idx=0, sparse=sparse), nn.Embedding(8, H)
        self.norm, self.head = nn.LayerNorm(H), nn.Linear(H, V)
        if tied:
            self.head.weight = self.tokens.weight

    def embed(self, input_ids):
        return self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1]))

    def forward(self, input_ids):
        return self.head(torch.tanh(self.norm(self.embed(input_ids))).mean(1))


A, B = torch.tensor([[3, 4, 5], [6, 3, 0]]), torch.tensor([[7, 8, 9], [10, 11, 3]])


def loss_of(model, input_ids):
    return F.cross_entropy(model(input_ids), input_ids[:, 0])


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def grads(model):
    return {
        name: None if value.grad is None else value.grad.clone() for name, value in model.named_parameters()
    }


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert (one[name] is None) == (two[name] is None) and (
            one[name] is None or torch.equal(one[name], two[name])
        ), name


def table_gradient(model, input_ids):
    return torch.autograd.grad(loss_of(model, input_ids), model.tokens.weight)[0]


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules()) + sum(
        len(p._backward_hooks or ()) for p in model.parameters()
    )


class Circulating:
    """The snippet, with a name that matches."""

    def __init__(self, model):
        self.model, self.backup = model, {}

    def attack(self, epsilon=1.0, emb_name="emb."):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                self.backup[name] = param.data.clone()
                norm = torch.norm(param.grad)
                if norm != 0 and not torch.isnan(norm):
                    param.data.add_(epsilon * param.grad / norm)

    def restore(self, emb_name="emb."):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                assert name in self.backup
                param.data = self.backup[name]
        self.backup = {}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_equals_the_formula_and_the_circulating_snippet(dtype, tolerance, tied):
    model, twin = Net(tied=tied).to(dtype), Net(tied=tied).to(dtype)
    fgm = FGM(model, epsilon=0.7)
    for input_ids in (A, B):  # the second time the rows-only path has been verified
        model.zero_grad()
        twin.zero_grad()
        loss_of(model, input_ids).backward()
        loss_of(twin, input_ids).backward()
        gradient = table_gradient(twin, input_ids)
        fgm.attack()
        theirs = Circulating(twin)
        theirs.attack(0.7, "tokens")
        attacked = twin.tokens.weight.detach().clone()
        torch.testing.assert_close(model.tokens.weight.detach(), attacked, rtol=tolerance, atol=tolerance)
        theirs.restore("tokens")
        torch.testing.assert_close(
            attacked, twin.tokens.weight + 0.7 * gradient / gradient.norm(), rtol=tolerance, atol=tolerance
        )
        fgm.restore()
        assert_same(weights(model), weights(twin))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), epsilon=st.floats(0.01, 5), rows=st.integers(1, 4))
def test_perturbation_has_norm_epsilon_and_raises_the_loss_to_first_order(seed, epsilon, rows):
    model = nn.Sequential(
        nn.Embedding(12, 3), nn.Flatten(), nn.Linear(6, 1)
    ).double()  # linear in the embeddings
    fgm = FGM(model, epsilon)
    input_ids = torch.randint(12, (rows, 2), generator=torch.Generator().manual_seed(seed))
    clean, before = model[0].weight.detach().clone(), model(input_ids).sum()
    before.backward()
    with fgm.perturbed():
        assert (model[0].weight - clean).norm().item() == pytest.approx(epsilon, rel=1e-9)
        assert (model(input_ids).sum() - before).item() == pytest.approx(
            epsilon * model[0].weight.grad.norm().item(), rel=1e-6
        )
    assert torch.equal(model[0].weight, clean)


def test_untied_table_moves_on_the_rows_of_the_batch_only_and_tied_table_on_all():
    for tied in (False, True):
        model = Net(tied=tied)
        fgm, clean = FGM(model), model.tokens.weight.detach().clone()
        loss_of(model, A).backward()
        fgm.attack()
        moved = set((model.tokens.weight != clean).any(1).nonzero().flatten().tolist())
        fgm.restore()
        assert moved == (set(range(20)) if tied else {3, 4, 5, 6})  # 0 is padding: no gradient


def test_rows_only_path_is_taken_where_the_table_is_for_look_ups_only():
    for model, expected in ((Net(), True), (Net(tied=True), False)):
        fgm = FGM(model)
        loss_of(model, A).backward()
        with fgm.perturbed():
            (site,) = fgm._sites
            assert isinstance(site.backup[0], torch.Tensor) is expected


def test_hidden_use_of_the_table_is_noticed():
    """Tied in ``forward`` only: no second name tells of it."""
    model = Net()
    model.forward = lambda input_ids: torch.tanh(model.embed(input_ids).mean(1)) @ model.tokens.weight.T
    fgm, clean = FGM(model, 0.5), model.tokens.weight.detach().clone()
    loss_of(model, A).backward()
    gradient = model.tokens.weight.grad
    with fgm.perturbed():
        torch.testing.assert_close(model.tokens.weight.detach(), clean + 0.5 * gradient / gradient.norm())


def hugging_face(name):
    import transformers

    torch.manual_seed(0)
    if name == "bert":
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        return transformers.BertForSequenceClassification(config)
    if name == "bert masked":
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        return transformers.BertForMaskedLM(config)
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config)
    return transformers.XLNetForSequenceClassification(
        transformers.XLNetConfig(vocab_size=20, d_model=8, n_layer=1, n_head=2, d_inner=8)
    )


@pytest.mark.parametrize("name", ["bert", "bert masked", "gpt2", "xlnet"])
def test_name_emb_dot_matches_no_parameter_and_is_an_error_while_the_default_finds_the_table(name):
    """The snippet's default ``emb_name='emb.'`` attacks nothing in BERT, GPT-2 and XLNet, without a word."""
    model = hugging_face(name).train(False)
    labels = A if name in ("bert masked", "gpt2") else torch.tensor([0, 1])
    clean = weights(model)
    model(input_ids=A, labels=labels).loss.backward()
    Circulating(model).attack()
    assert_same(weights(model), clean)
    with pytest.raises(ValueError, match="^target: 'emb.' given, it matches no .* accepted.*embedding|wte"):
        FGM(model, target="emb.")
    for outer in (model, nn.ModuleDict({"encoder": nn.Sequential(model)})):  # also inside one's own module
        with FGM(outer, epsilon=1.0).perturbed():
            changed = [n for n, value in model.named_parameters() if not torch.equal(value, clean[n])]
            table = model.get_input_embeddings().weight
            assert len(changed) == 1 and dict(model.named_parameters())[changed[0]] is table
            torch.testing.assert_close((table - clean[changed[0]]).norm().item(), 1.0, rtol=1e-5, atol=0)
        assert_same(weights(model), clean)


@pytest.mark.parametrize("kind", [FGM, PGD, AWP, RandomDirection])
def test_target_by_name_gives_each_parameter_its_own_norm(kind):
    model = Net()
    attack, clean = kind(model, epsilon=0.3, target="s.weight"), weights(model)  # tokens, positions
    loss_of(model, A).backward()
    with attack.perturbed():
        for name in ("tokens.weight", "positions.weight"):
            length = 0.3 * clean[name].norm().item() if kind is AWP else 0.3  # PGD's alpha is 0.3 too
            r = dict(model.named_parameters())[name] - clean[name]
            assert r.norm().item() == pytest.approx(length, rel=1e-5)
        assert torch.equal(model.head.weight, clean["head.weight"])
    assert_same(weights(model), clean)


def test_embedding_without_a_gradient_is_left_alone():
    """The snippet uses ``param.grad`` unchecked: a crash where an embedding took no part."""
    model = Net()
    model.unused = nn.Embedding(3, 4)
    fgm, clean = FGM(model, target="weight"), weights(model)
    loss_of(model, A).backward()
    with pytest.raises((AttributeError, TypeError)):
        Circulating(model).attack(emb_name="unused")
    with fgm.perturbed():
        assert torch.equal(model.unused.weight, clean["unused.weight"]) and not torch.equal(
            model.tokens.weight, clean["tokens.weight"]
        )
    assert_same(weights(model), clean)


def test_embedding_that_took_no_part_in_this_pass_is_left_alone():
    model = Net()
    model.other = nn.Embedding(3, 4)
    fgm, clean = FGM(model, target="weight"), weights(model)
    (model.other(torch.tensor([1])).sum() + loss_of(model, A)).backward()
    fgm.attack()
    fgm.restore()
    loss_of(model, A).backward()
    with fgm.perturbed():
        assert torch.equal(model.other.weight, clean["other.weight"])


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradient_is_that_of_this_micro_batch_under_accumulation(tied, set_to_none):
    """``param.grad`` mixes in the micro-batches before: half of the perturbation on words that do not
    occur.
    """
    model = Net(tied=tied)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fgm, clean = FGM(model), model.tokens.weight.detach().clone()
    loss_of(model, B).backward()
    optimizer.zero_grad(set_to_none=set_to_none)
    for input_ids in (A, B, A):
        gradient = table_gradient(model, input_ids)
        loss_of(model, input_ids).backward()
        with fgm.perturbed():
            torch.testing.assert_close(
                model.tokens.weight.detach(), clean + gradient / gradient.norm(), rtol=1e-5, atol=1e-6
            )
            loss_of(model, input_ids).backward()
    mixed = model.tokens.weight.grad
    assert F.cosine_similarity(mixed.flatten(), gradient.flatten(), dim=0) < 0.9


def test_accumulated_gradient_is_clean_plus_adversarial():
    model = Net()
    fgm = FGM(model)
    loss_of(model, A).backward()
    clean = grads(model)
    fgm.attack()
    adversarial = torch.autograd.grad(loss_of(model, A), list(model.parameters()))
    loss_of(model, A).backward()
    fgm.restore()
    for (name, value), extra in zip(grads(model).items(), adversarial):
        torch.testing.assert_close(value, clean[name] + extra)


def test_grad_scaler_does_not_change_the_perturbation():
    model, twin = Net(), Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    fgm, plain = FGM(model), FGM(twin)
    for input_ids in (A, B):
        scaler.scale(loss_of(model, input_ids)).backward()
        loss_of(twin, input_ids).backward()
        with fgm.perturbed(), plain.perturbed():
            torch.testing.assert_close(model.tokens.weight, twin.tokens.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), 1e30])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_overflow_skips_the_attack_instead_of_writing_nan(value, tied):
    """``isnan(norm)`` does not catch an infinite gradient: inf / inf is NaN in the embeddings. 1e30 squared
    is infinite.
    """
    model = Net(tied=tied)
    clean = weights(model)
    fgm, pgd, awp = FGM(model), PGD(model), AWP(model)
    loss_of(model, A).backward()
    model.tokens.weight.grad[3] = value
    for attack in (fgm, pgd, awp):
        with attack.perturbed():
            assert torch.equal(model.tokens.weight, clean["tokens.weight"])
        assert_same(weights(model), clean)
    if value == float("inf"):
        Circulating(model).attack(emb_name="tokens")
        assert model.tokens.weight.isnan().any()


def test_overflow_of_one_example_leaves_the_others_attacked():
    model = Net()
    fgm = FGM(model, per_example=True)
    logits = model(A)
    (logits.sum(1) * torch.tensor([float("inf"), 1.0])).sum().backward()
    fgm.attack()
    norms = fgm._sites[0].r.flatten(1).norm(dim=1)
    assert norms[0] == 0 and norms[1] == pytest.approx(1.0, rel=1e-5)


def test_zero_gradient_perturbs_nothing():
    model = Net()
    (0 * loss_of(model, A)).backward()
    clean = weights(model)
    with FGM(model).perturbed():
        assert_same(weights(model), clean)


ATTACKS = {
    "FGM": lambda model: FGM(model),
    "FGM by name": lambda model: FGM(model, target="weight"),
    "FGM per example": lambda model: FGM(model, per_example=True),
    "PGD": lambda model: PGD(model),
    "PGD per example": lambda model: PGD(model, per_example=True),
    "FGM relative": lambda model: FGM(model, epsilon=0.3, relative=True),
    "FGM relative per example": lambda model: FGM(model, epsilon=0.3, per_example=True, relative=True),
    "PGD relative": lambda model: PGD(model, epsilon=0.3, alpha=0.2, relative=True),
    "AWP": lambda model: AWP(model),
}


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_restore_is_bit_exact_in_place_and_the_optimizer_goes_on(make, tied):
    """The snippet's ``param.data = backup`` gives the parameter another storage than the optimizer's or DDP's
    bucket.
    """
    model = Net(tied=tied)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    attack = make(model)
    pointers = [value.data_ptr() for value in model.parameters()]
    for input_ids in (A, B, A):
        optimizer.zero_grad()
        loss_of(model, input_ids).backward()
        clean = weights(model)
        clean_loss = loss_of(model, input_ids).item()
        attack.attack()
        adversarial = loss_of(model, input_ids)
        assert adversarial.item() > clean_loss
        adversarial.backward()
        attack.restore()
        assert_same(weights(model), clean)
        assert [value.data_ptr() for value in model.parameters()] == pointers
        optimizer.step()
        assert not torch.equal(model.head.weight, clean.get("head.weight", clean["tokens.weight"]))


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_weights_come_back_after_an_exception(make):
    model = Net()
    attack, clean = make(model), weights(model)
    loss_of(model, A).backward()
    with pytest.raises(KeyError), attack.perturbed():
        raise KeyError
    assert_same(weights(model), clean)
    torch.testing.assert_close(model(A), Net()(A), rtol=0, atol=0)


@pytest.mark.parametrize(
    "call", [lambda fgm: fgm.attack(), lambda fgm: fgm.perturbed().__enter__()], ids=["attack", "perturbed"]
)
def test_weights_come_back_when_the_attack_itself_fails_half_way(call):
    model = Net()
    fgm, clean = FGM(model, target="s.weight"), weights(model)
    loss_of(model, A).backward()
    fgm._sites[1].perturb = None  # any failure at the second parameter
    with pytest.raises(TypeError):
        call(fgm)
    assert_same(weights(model), clean)


def test_second_perturbed_inside_the_first_is_an_error_and_leaves_the_attack_in_place():
    model = Net()
    fgm, clean = FGM(model), weights(model)
    loss_of(model, A).backward()
    with fgm.perturbed():
        attacked = weights(model)
        with pytest.raises(RuntimeError, match="^attack: "), fgm.perturbed():
            pass
        assert_same(weights(model), attacked)
    assert_same(weights(model), clean)


@pytest.mark.parametrize("kind", [FGM, AWP])
def test_second_attack_is_an_error_and_not_the_loss_of_the_weights(kind):
    """In the snippet a second ``attack`` overwrites the backup with perturbed weights."""
    model = Net()
    attack, clean = kind(model), weights(model)
    loss_of(model, A).backward()
    attack.attack()
    with pytest.raises(RuntimeError, match=r"^attack: .*restore\(\)"):
        attack.attack()
    attack.restore()
    assert_same(weights(model), clean)
    attack.restore()  # nothing to do
    assert_same(weights(model), clean)


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_attack_before_backward_is_an_error(make):
    with pytest.raises(RuntimeError, match=r"^attack: .*backward\(\)"):
        make(Net()).attack()


def pgd_reference(model, input_ids, epsilon, alpha, steps):
    """Equation (2) in float64, one step at a time from the clean weights."""
    model, r = copy.deepcopy(model).double(), 0.0
    clean, found = model.tokens.weight.detach().clone(), []
    for _ in range(steps):
        gradient = table_gradient(model, input_ids)
        r = r + alpha * gradient / gradient.norm()
        r = r * min(1.0, epsilon / r.norm().item())
        model.tokens.weight.data = clean + r
        found.append(r)
    return found


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("set_to_none", [True, False, None])
def test_pgd_projects_around_the_clean_weights_and_restores_the_gradient(dtype, tolerance, tied, set_to_none):
    """Common collections project around the wrong origin: the norm grows 0.66, 1.65, 2.66 at epsilon 1; the
    clean gradient is lost.
    """
    model = Net(tied=tied).to(dtype)
    pgd, before = PGD(model, epsilon=1.0, alpha=0.66), weights(model)
    clean = before["tokens.weight"]
    expected = pgd_reference(model, A, 1.0, 0.66, 4)
    loss_of(model, A).backward()
    clean_grads = grads(model)
    for r in expected:
        pgd.attack()
        assert (model.tokens.weight - clean).norm() <= 1 + 1e-5
        torch.testing.assert_close((model.tokens.weight - clean).double(), r, rtol=0, atol=10 * tolerance)
        assert_same(grads(model), clean_grads)
        adversarial = torch.autograd.grad(loss_of(model, A), list(model.parameters()))
        if set_to_none is not None and r is not expected[-1]:
            model.zero_grad(set_to_none)
        loss_of(model, A).backward()
    pgd.restore()
    assert_same(weights(model), before)
    for (name, value), extra in zip(grads(model).items(), adversarial):
        torch.testing.assert_close(value, clean_grads[name] + extra)


def test_pgd_drops_a_gradient_that_only_an_intermediate_step_had():
    model = Net()
    model.extra = nn.Parameter(torch.ones(()))
    pgd = PGD(model)
    loss_of(model, A).backward()
    pgd.attack()
    (loss_of(model, A) * model.extra).backward()
    pgd.attack()
    assert model.extra.grad is None
    pgd.restore()


def test_pgd_with_another_batch_on_the_way():
    model = Net()
    pgd, clean = PGD(model, epsilon=0.5), weights(model)
    for input_ids in (A, B, A):
        loss_of(model, input_ids).backward()
        pgd.attack()
        assert (model.tokens.weight - clean["tokens.weight"]).norm() <= 0.5 + 1e-5
    pgd.restore()
    assert_same(weights(model), clean)


@pytest.mark.parametrize("kind", [FGM, PGD])
def test_per_example_normalises_each_example_alone_and_not_the_table(kind):
    """Miyato et al. normalise per example; the snippets over the whole table, where a hard example outweighs
    the others.
    """
    model = Net().double()
    attack = kind(model, epsilon=0.5, per_example=True)
    options = {"alpha": 0.3} if kind is PGD else {}
    embedded = model.tokens(A).detach()  # (B, T, H)
    r = torch.zeros_like(embedded)

    def loss_at(r):
        hidden = embedded + r + model.positions(torch.arange(3))
        return F.cross_entropy(model.head(torch.tanh(model.norm(hidden)).mean(1)), A[:, 0])

    loss_of(model, A).backward()
    for _ in range(3 if kind is PGD else 1):
        point = r.clone().requires_grad_()
        g = torch.autograd.grad(loss_at(point), point)[0]
        g = g / g.flatten(1).norm(dim=1).view(-1, 1, 1)
        r = 0.5 * g if kind is FGM else r + options["alpha"] * g
        r = r * (0.5 / r.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1)
        attack.attack()
        adversarial = loss_of(model, A)
        torch.testing.assert_close(adversarial, loss_at(r), rtol=1e-9, atol=0)
        adversarial.backward()
    with torch.no_grad():
        torch.testing.assert_close(loss_of(model, A), loss_at(r), rtol=1e-9, atol=0)
    attack.restore()
    torch.testing.assert_close(loss_of(model, A), loss_at(torch.zeros_like(r)), rtol=1e-9, atol=0)


def test_per_example_does_not_depend_on_the_rest_of_the_batch():
    alone, together = [], None
    for rows in ([0], [1], [0, 1]):
        model = Net()
        fgm = FGM(model, per_example=True)
        loss_of(model, A[rows]).backward()
        fgm.attack()
        together = fgm._sites[0].r
        alone.append(together)
    torch.testing.assert_close(together, torch.cat(alone[:2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.25, 0.75)], ids=str)
def test_per_example_takes_the_gradient_of_both_passes_of_one_batch(shares):
    """As R-Drop reads it: r is that of one pass with the same loss, whichever pass the loss weighs."""
    found = []
    for parts in (shares, (1.0,)):
        model = Net()
        fgm = FGM(model, epsilon=0.5, per_example=True)
        for _ in range(2):  # nothing of the first step is left in the second
            sum(part * loss for part, loss in [(part, loss_of(model, A)) for part in parts]).backward()
            with fgm.perturbed():
                r = model.tokens(A).detach() - model.tokens.weight[A].detach()
        found.append(r)
    torch.testing.assert_close(*found)
    assert found[0].norm() > 0.5


@pytest.mark.parametrize("other", [B, A[:1]], ids=["other words", "other shape"])
def test_per_example_with_another_batch_is_an_error(other):
    model = Net()
    fgm = FGM(model, per_example=True)
    loss_of(model, A).backward()
    with pytest.raises(ValueError, match="^input_ids: .* accepted"), fgm.perturbed():
        loss_of(model, other)
    loss_of(model, other)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_relative_moves_each_touched_row_by_its_own_share(dtype, tolerance, tied):
    """One norm over the table is much for its short rows and little for its long ones."""
    model = Net(tied=tied).to(dtype)
    with torch.no_grad():
        model.tokens.weight[3] *= 100
        model.tokens.weight[4] = 0  # a row without a length stays where it is
    fgm, clean, g = FGM(model, 0.2, relative=True), weights(model), table_gradient(model, A)
    table = clean["tokens.weight"]
    share = 0.2 * table.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)
    expected = torch.where(g.any(dim=1, keepdim=True), table + share * g, table)
    loss_of(model, A).backward()
    with fgm.perturbed():
        attacked = model.tokens.weight.detach()
        torch.testing.assert_close(attacked, expected, rtol=tolerance, atol=tolerance)
        assert torch.equal(attacked[4], table[4]) and (attacked[3] - table[3]).norm() > 10
    assert_same(weights(model), clean)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_relative_does_not_depend_on_the_scale_of_the_table(factor):
    """The same network with a table of another scale, which the layer above undoes."""
    losses = []
    for scale in (1.0, factor):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(12, 3), nn.Flatten(), nn.Linear(9, 12)).double()
        with torch.no_grad():
            model[0].weight *= scale
            model[2].weight /= scale
        loss_of(model, A).backward()
        with FGM(model, 0.3, relative=True).perturbed():
            losses.append(loss_of(model, A).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_relative_per_example_moves_each_look_up_by_its_own_share():
    model = Net().double()
    fgm, embedded = FGM(model, 0.2, per_example=True, relative=True), model.tokens(A).detach()
    point = embedded.clone().requires_grad_()
    hidden = point + model.positions(torch.arange(3))
    loss = F.cross_entropy(model.head(torch.tanh(model.norm(hidden)).mean(1)), A[:, 0])
    (g,) = torch.autograd.grad(loss, point)
    loss_of(model, A).backward()
    fgm.attack()
    expected = 0.2 * embedded.norm(dim=-1, keepdim=True) * g / g.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(fgm._sites[0].r, expected)
    fgm.restore()


def test_relative_pgd_keeps_each_row_in_a_ball_of_its_share():
    model = Net().double()
    with torch.no_grad():
        model.tokens.weight[3] *= 100
    pgd, table = PGD(model, epsilon=0.2, alpha=0.15, relative=True), model.tokens.weight.detach().clone()
    r, lengths = torch.zeros_like(table), table.norm(dim=1, keepdim=True)
    loss_of(model, A).backward()
    for _ in range(3):
        g = table_gradient(model, A)
        r = r + 0.15 * lengths * g / g.norm(dim=1, keepdim=True).clamp(min=1e-300)
        r = r * (0.2 * lengths / r.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1)
        pgd.attack()
        torch.testing.assert_close(model.tokens.weight.detach(), table + r, rtol=1e-9, atol=1e-12)
        loss_of(model, A).backward()
    pgd.restore()
    assert torch.equal(model.tokens.weight, table)


def test_relative_overflow_of_one_row_leaves_that_row_alone():
    model = Net()
    fgm, clean = FGM(model, relative=True), model.tokens.weight.detach().clone()
    loss_of(model, A).backward()
    model.tokens.weight.grad[3] = float("inf")
    with fgm.perturbed():
        assert (model.tokens.weight != clean).any(1).nonzero().flatten().tolist() == [4, 5, 6]
        assert model.tokens.weight.isfinite().all()


RANDOM = {"table": {}, "per example": {"per_example": True}, "relative": {"relative": True},
          "target": {"target": "s.weight"}}  # fmt: skip


@pytest.mark.parametrize("options", RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_random_direction_is_as_long_as_fgm_on_the_same_entries_and_another(options, tied):
    model, moves = Net(tied=tied).double(), {}
    clean = weights(model)
    for seed, kind in enumerate((FGM, RandomDirection, RandomDirection)):
        torch.manual_seed(seed)
        attack = kind(model, 0.5, **options)
        model.zero_grad()
        loss_of(model, A).backward()
        with attack.perturbed():
            of_weights = torch.cat([v.flatten() - clean[n].flatten() for n, v in model.named_parameters()])
            moves[seed] = attack._sites[0].r if "per_example" in options else of_weights.detach()
        assert_same(weights(model), clean)
    worst, one, other = moves.values()
    for random in (one, other):
        assert torch.equal(random != 0, worst != 0)
        assert random.norm().item() == pytest.approx(worst.norm().item())
        assert F.cosine_similarity(random.flatten(), worst.flatten(), dim=0).abs() < 0.7
    assert not torch.equal(one, other)


def test_random_direction_leaves_an_overflow_alone_as_fgm_does():
    model = Net()
    attack, clean = RandomDirection(model), weights(model)
    loss_of(model, A).backward()
    model.tokens.weight.grad[3] = float("inf")
    with attack.perturbed():
        assert_same(weights(model), clean)


def test_random_direction_has_no_direction():
    """Of many draws the mean is near zero: each entry may go either way."""
    model, total = Net().double(), 0.0
    attack, clean = RandomDirection(model), model.tokens.weight.detach().clone()
    loss_of(model, A).backward()
    torch.manual_seed(0)
    for _ in range(400):
        with attack.perturbed():
            total = total + (model.tokens.weight.detach() - clean)
    assert (total / 400).norm() < 0.15


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_awp_moves_each_matrix_by_its_own_norm(dtype, tolerance):
    model = Net().to(dtype)
    awp, clean = AWP(model, epsilon=0.01), weights(model)
    loss_of(model, A).backward()
    with awp.perturbed():
        for name, value in model.named_parameters():
            expected = clean[name]
            if value.ndim > 1:
                expected = expected + 0.01 * expected.norm() * value.grad / value.grad.norm()
            torch.testing.assert_close(value.detach(), expected, rtol=tolerance, atol=tolerance)
    assert_same(weights(model), clean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_half_precision_weights(dtype, make):
    model = Net().to(dtype)
    attack, clean = make(model), weights(model)
    loss_of(model, A).backward()
    with attack.perturbed():
        loss_of(model, A).backward()
        if type(attack) is FGM and not attack.per_example and not attack.relative:
            assert (model.tokens.weight - clean["tokens.weight"]).double().norm().item() == pytest.approx(
                1, rel=0.02
            )
    assert_same(weights(model), clean)


def test_made_after_the_backward_pass_it_takes_the_whole_gradient():
    """No hook has seen a forward or a backward pass: slower, the same result."""
    model = Net()
    loss_of(model, A).backward()
    clean, gradient = model.tokens.weight.detach().clone(), model.tokens.weight.grad
    with FGM(model).perturbed():
        torch.testing.assert_close(model.tokens.weight.detach(), clean + gradient / gradient.norm())
    assert torch.equal(model.tokens.weight, clean)


def test_look_up_without_the_module_is_attacked_too():
    model = nn.Sequential(nn.Embedding(9, 2), nn.Linear(2, 1))
    fgm, clean = FGM(model), model[0].weight.detach().clone()
    model[1](F.embedding(torch.tensor([3, 4]), model[0].weight)).sum().backward()
    with fgm.perturbed():
        assert (model[0].weight != clean).any(1).nonzero().flatten().tolist() == [3, 4]


def test_rows_of_a_pass_without_gradient_and_of_two_passes_before_one_backward():
    model = Net()
    fgm, clean = FGM(model), model.tokens.weight.detach().clone()
    with torch.no_grad():
        model(torch.tensor([[12, 13]]))
    (loss_of(model, A) + loss_of(model, B)).backward()
    gradient = model.tokens.weight.grad
    with fgm.perturbed():
        assert 12 not in fgm._sites[0].backup[0].tolist()
        torch.testing.assert_close(model.tokens.weight.detach(), clean + gradient / gradient.norm())


def test_sparse_gradient():
    model, twin = Net(sparse=True), Net()
    for m in (model, twin):
        fgm = FGM(m)
        loss_of(m, A).backward()
        fgm.attack()
    torch.testing.assert_close(model.tokens.weight, twin.tokens.weight)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    from torch.utils.checkpoint import checkpoint

    model, twin = Net(), Net()
    plain = model.forward
    anchor = torch.zeros((), requires_grad=True)
    model.forward = lambda input_ids: checkpoint(
        lambda ids, _: plain(ids), input_ids, anchor, use_reentrant=reentrant
    )
    for m in (model, twin):
        fgm = FGM(m)
        for input_ids in (A, B):
            loss_of(m, input_ids).backward()
            fgm.attack()
            m.attacked = m.tokens.weight.detach().clone()
            fgm.restore()
    torch.testing.assert_close(model.attacked, twin.attacked)


@pytest.mark.parametrize("before", [True, False], ids=["hooks before compile", "hooks after compile"])
def test_compiled_model(before):
    torch._dynamo.reset()
    model, twin = Net(), Net()
    fgm = FGM(model) if before else None
    compiled = torch.compile(model, backend="aot_eager")
    fgm, plain = fgm or FGM(compiled), FGM(twin)
    for input_ids in (A, B):
        loss_of(compiled, input_ids).backward()
        loss_of(twin, input_ids).backward()
        fgm.attack()
        plain.attack()
        torch.testing.assert_close(model.tokens.weight, twin.tokens.weight)
        fgm.restore()
        plain.restore()


def test_weights_cached_by_autocast_do_not_hide_the_attack():
    """Inside one autocast block the half precision copy of a weight would outlive the attack and the
    restore.
    """
    model = Net()
    awp = AWP(model, epsilon=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clean = loss_of(model, A)
        clean.backward()
        with awp.perturbed():
            assert loss_of(model, A).item() > clean.item() + 0.01
        assert loss_of(model, A).item() == clean.item()


def test_hooks_go_with_the_attack():
    model = Net()
    attack = FGM(model, target="weight")
    assert hooks(model) > 0
    del attack
    assert hooks(model) == 0


def test_attacked_model_can_be_copied_and_saved():
    model = Net()
    fgm = FGM(model)
    loss_of(model, A).backward()
    with fgm.perturbed():
        twin = copy.deepcopy(model)
        torch.save(model, file := io.BytesIO())
    file.seek(0)
    assert_same(weights(torch.load(file, weights_only=False)), weights(twin))
    assert not torch.equal(twin.tokens.weight, model.tokens.weight)


def test_parameter_object_may_be_replaced():
    model = Net()
    fgm = FGM(model)
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    clean = weights(model)
    loss_of(model, A).backward()
    with fgm.perturbed():
        assert (model.tokens.weight - clean["tokens.weight"]).norm().item() == pytest.approx(1.0, rel=1e-5)
    assert_same(weights(model), clean)


def test_replaced_parameter_is_not_attacked_on_the_rows_of_an_earlier_batch():
    model = Net()
    fgm = FGM(model)
    loss_of(model, A).backward()
    with fgm.perturbed():
        pass
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    clean = model.tokens.weight.detach().clone()
    loss_of(model, B).backward()
    with fgm.perturbed():
        assert set((model.tokens.weight != clean).any(1).nonzero().flatten().tolist()) == {3, 7, 8, 9, 10, 11}


def test_attack_of_an_accumulated_gradient_moves_the_rows_of_all_its_batches():
    """Without a backward pass since the last restore, ``.grad`` as it stands is attacked."""
    model = Net()
    fgm, clean = FGM(model, epsilon=0.5), model.tokens.weight.detach().clone()
    for input_ids in (A, B):
        loss_of(model, input_ids).backward()
    with fgm.perturbed():
        pass
    gradient = model.tokens.weight.grad
    with fgm.perturbed():
        torch.testing.assert_close(model.tokens.weight.detach(), clean + 0.5 * gradient / gradient.norm())


def test_replica_of_data_parallel_sees_a_part_of_the_batch_and_is_not_taken_for_all_of_it():
    """DataParallel around the model after the attack was made: the hooks run in its replicas too."""
    model = Net()
    fgm, clean = FGM(model), model.tokens.weight.detach().clone()
    replica = model.tokens._replicate_for_data_parallel()
    replica.weight = model.tokens.weight
    (loss_of(model, A) + replica(B).pow(2).sum()).backward()
    gradient = model.tokens.weight.grad
    with fgm.perturbed():
        torch.testing.assert_close(model.tokens.weight.detach(), clean + gradient / gradient.norm())


def test_process_group_of_a_model_that_is_not_distributed_is_its_own_affair():
    model = Net()
    model.process_group = "a name of one's own"
    loss_of(model, A).backward()
    with FGM(model).perturbed():
        pass


@pytest.mark.parametrize("target", ["norm", "bias", "scale"])
def test_target_of_one_dimensional_parameters_alone_is_an_error_that_names_them(target):
    """A step of length epsilon on a LayerNorm's weight is no attack on the words."""
    model = Net()
    model.scale = nn.Parameter(torch.ones(()))
    names = sorted(name for name, _ in model.named_parameters() if target in name)
    with pytest.raises(ValueError, match=f"^target: '{target}' given, .*{', '.join(names)}; .* accepted"):
        FGM(model, target=target)


def test_target_that_matches_a_norm_too_attacks_the_tables_alone():
    model = Net()
    model.tokens_norm = nn.LayerNorm(4)
    fgm, clean = FGM(model, target="tokens"), weights(model)
    (loss_of(model, A) + model.tokens_norm(model.embed(A)).pow(2).mean()).backward()
    with fgm.perturbed():
        moved = [name for name, value in model.named_parameters() if not torch.equal(value, clean[name])]
    assert moved == ["tokens.weight"] and model.tokens_norm.weight.grad.any()


def attacked_in_parallel(rank):
    model = Net()
    parallel = nn.parallel.DistributedDataParallel(model)
    fgm = FGM(nn.Sequential(parallel))  # also inside another wrapper, such as that of torch.compile
    for batch in ((A, B), (B, A)):  # the second time over an accumulated gradient
        loss_of(parallel, batch[rank]).backward()
        with fgm.perturbed():
            attacked = model.tokens.weight.detach().clone()
            loss_of(parallel, batch[rank]).backward()
    random = RandomDirection(parallel)
    torch.manual_seed(rank)
    with random.perturbed():
        anywhere = model.tokens.weight.detach().clone()
    return attacked, model.tokens.weight.grad, anywhere


def test_processes_share_the_attack_of_the_mean_gradient(tmp_path):
    """Two processes with half of the batch each equal one process with the whole batch."""
    model = Net()
    fgm = FGM(model)
    whole = torch.cat([A, B])
    for _ in range(2):
        loss_of(model, whole).backward()
        with fgm.perturbed():
            attacked = model.tokens.weight.detach().clone()
            loss_of(model, whole).backward()
    ranks = run_ranks(attacked_in_parallel, 2, tmp_path)
    for *of_rank, anywhere in ranks:
        torch.testing.assert_close(of_rank, [attacked, model.tokens.weight.grad])
        assert torch.equal(anywhere, ranks[0][-1]) and not torch.equal(anywhere, attacked)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_on_cuda_equals_cpu(make):
    model, twin = Net().cuda(), Net()
    twin_positions = torch.arange
    attack, plain = make(model), make(twin)
    model.embed = lambda ids: (
        model.tokens(ids) + model.positions(twin_positions(ids.shape[1], device=ids.device))
    )
    clean = weights(model)
    loss_of(model, A.cuda()).backward()
    loss_of(twin, A).backward()
    with attack.perturbed(), plain.perturbed():
        torch.testing.assert_close(loss_of(model, A.cuda()).cpu(), loss_of(twin, A))
    assert_same(weights(model), clean)


def test_numbers_of_numpy_are_accepted():
    model, twin = Net(), Net()
    pgd, plain = PGD(model, np.float64(0.5), alpha=np.float32(0.25)), PGD(twin, 0.5, alpha=0.25)
    for attack, m in ((pgd, model), (plain, twin)):
        loss_of(m, A).backward()
        attack.attack()
    assert_same(weights(model), weights(twin))


GOOD = Net()
BAD_INPUT = {
    "model is None": (FGM, (None,), TypeError, "model"),
    "model is a state dict": (PGD, (GOOD.state_dict(),), TypeError, "model"),
    "model on the meta device": (FGM, (nn.Embedding(3, 2, device="meta"),), ValueError, "model"),
    "model without embeddings": (FGM, (nn.Linear(2, 2),), ValueError, "model"),
    "embeddings frozen": (FGM, (nn.Embedding(3, 2).requires_grad_(False),), ValueError, "model"),
    "no matrix to perturb": (AWP, (nn.LayerNorm(3),), ValueError, "model"),
    "target matches nothing": (FGM, (GOOD, 1.0, "emb."), ValueError, "target"),
    "target is empty": (FGM, (GOOD, 1.0, ""), ValueError, "target"),
    "target is a list": (FGM, (GOOD, 1.0, ["tokens"]), TypeError, "target"),
    "target is a parameter": (FGM, (GOOD, 1.0, GOOD.tokens.weight), TypeError, "target"),
    "target of AWP matches nothing": (AWP, (GOOD, 1.0, "encoder"), ValueError, "target"),
    "target of PGD matches nothing": (PGD, (GOOD, 1.0, "encoder"), ValueError, "target"),
    "target without look-ups per example": (FGM, (GOOD, 1.0, "head.weight", True), ValueError, "target"),
    "epsilon is zero": (FGM, (GOOD, 0.0), ValueError, "epsilon"),
    "epsilon is negative": (PGD, (GOOD, -1.0), ValueError, "epsilon"),
    "epsilon is NaN": (FGM, (GOOD, float("nan")), ValueError, "epsilon"),
    "epsilon is infinite": (AWP, (GOOD, float("inf")), ValueError, "epsilon"),
    "epsilon is a string": (FGM, (GOOD, "1.0"), TypeError, "epsilon"),
    "epsilon is a bool": (FGM, (GOOD, True), TypeError, "epsilon"),
    "epsilon is a name": (FGM, (GOOD, "tokens"), TypeError, "epsilon"),
    "per_example is a number": (FGM, (GOOD, 1.0, None, 1), TypeError, "per_example"),
    "relative is a number": (FGM, (GOOD, 1.0, None, False, 1), TypeError, "relative"),
    "relative of PGD is None": (PGD, (GOOD, 1.0, None, False, 0.3, None), TypeError, "relative"),
    "epsilon of a random direction is zero": (RandomDirection, (GOOD, 0.0), ValueError, "epsilon"),
    "alpha is zero": (PGD, (GOOD, 1.0, None, False, 0.0), ValueError, "alpha"),
    "alpha is negative": (PGD, (GOOD, 1.0, None, False, -0.3), ValueError, "alpha"),
    "alpha is NaN": (PGD, (GOOD, 1.0, None, False, float("nan")), ValueError, "alpha"),
    "alpha is infinite": (PGD, (GOOD, 1.0, None, False, float("inf")), ValueError, "alpha"),
    "model of PGD on the meta device": (PGD, (nn.Embedding(3, 2, device="meta"),), ValueError, "model"),
    "model of AWP is a list": (AWP, ([GOOD],), TypeError, "model"),
    "epsilon of AWP is zero": (AWP, (GOOD, 0), ValueError, "epsilon"),
    "epsilon of PGD is None": (PGD, (GOOD, None), TypeError, "epsilon"),
    "target of AWP is a number": (AWP, (GOOD, 0.1, 1), TypeError, "target"),
    "alpha is None": (PGD, (GOOD, 1.0, None, False, None), TypeError, "alpha"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    kind, arguments, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        kind(*arguments)
    assert hooks(GOOD) == 0
