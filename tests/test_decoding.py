"""Oracles: transformers' ``generate`` and logits processors, sequences recorded from transformers 4.55
(tests/fixtures), all sequences of a tiny vocabulary, plain float64 loops without batch or cache, and NumPy
for the filters."""

import functools
import inspect
import itertools
import json
import math
import runpy
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from transformers.generation import logits_process

from tricks_lib import decoding
from tricks_lib.decoding import (
    beam_search,
    block_repeated_ngrams,
    contrastive_search,
    diverse_beam_search,
    eta_filter,
    greedy_search,
    min_p_filter,
    next_token_table,
    sample,
    sequence_log_prob,
    top_h_filter,
    top_k_filter,
    top_n_sigma_filter,
    top_p_filter,
    typical_filter,
)

FIXTURES = Path(__file__).parent / "fixtures"
tiny_gpt2, prompts = map(runpy.run_path(str(FIXTURES / "record_decoding.py")).get, ("tiny_gpt2", "prompts"))
EOS, PAD = 2, 3
VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
MODES = {
    "greedy": (greedy_search, {}),
    "sample": (sample, {"top_k": 1}),
    "beam": (beam_search, {"num_beams": 3}),
    "diverse": (diverse_beam_search, {"num_beams": 4, "num_beam_groups": 2}),
    "contrastive": (contrastive_search, {"penalty_alpha": 0.6, "top_k": 3}),
}


class Bigrams(nn.Module):
    """A language model with logits table[last token]: its distributions are known exactly."""

    def __init__(self, table, eos=EOS, **config):
        super().__init__()
        self.table, self.columns_seen = table, []
        self.config = SimpleNamespace(is_encoder_decoder=False, **config)
        self.generation_config = SimpleNamespace(eos_token_id=eos, pad_token_id=PAD)
        self.eval()

    def get_input_embeddings(self):
        return SimpleNamespace(num_embeddings=len(self.table), weight=self.table)

    def forward(
        self, input_ids, attention_mask=None, past_key_values=None, use_cache=True, output_hidden_states=False
    ):
        self.columns_seen.append(input_ids.shape[1])
        cache = SimpleNamespace(reorder_cache=lambda rows: None)
        return SimpleNamespace(
            logits=self.table[input_ids], past_key_values=cache, hidden_states=[self.table[input_ids]]
        )


def bigrams(vocab_size=12, seed=0, scale=2.0, **config):
    return Bigrams(
        scale
        * torch.randn(
            vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ),
        **config,
    )


@pytest.fixture
def model():
    return tiny_gpt2(0)


def kept(filtered):
    return set(torch.isfinite(filtered).nonzero().flatten().tolist())


# ------------------------------------------------------------------------------------------------ filters


def np_softmax(logits):
    weights = np.exp(logits.double().numpy() - logits.double().numpy().max())
    return weights / weights.sum()


def smallest_set(p, order, mass):
    """Tokens in the given order until their probability reaches the mass."""
    n = int(np.searchsorted(np.cumsum(p[order]), mass - 1e-12) + 1)
    return set(order[:n].tolist())


def np_top_h(p, top_h):
    order = np.argsort(-p, kind="stable")[:100]
    q = p[order] / p[order].sum()
    terms = -q * np.log(q)
    return set(order[: max(1, int((np.cumsum(terms) <= top_h * terms.sum()).sum()))].tolist())


def np_top_n_sigma(logits, n):
    """Tang et al. 2024, algorithm 1; what is added to all logits changes neither side."""
    return np.flatnonzero(logits >= logits.max() - n * logits.std(ddof=1)).tolist()


def np_entropy(p):
    return -(p * np.log(p)).sum()


FILTERS = {  # ours, parameter, the set of tokens by definition, transformers' class
    "top-k": (
        top_k_filter,
        7,
        lambda p, k: set(np.argsort(-p, kind="stable")[:k].tolist()),
        "TopKLogitsWarper",
    ),
    "top-p": (
        top_p_filter,
        0.8,
        lambda p, mass: smallest_set(p, np.argsort(-p, kind="stable"), mass),
        "TopPLogitsWarper",
    ),
    "min-p": (
        min_p_filter,
        0.1,
        lambda p, share: set(np.flatnonzero(p >= share * p.max()).tolist()),
        "MinPLogitsWarper",
    ),
    "typical": (
        typical_filter,
        0.6,
        lambda p, mass: smallest_set(p, np.argsort(np.abs(-np.log(p) - np_entropy(p))), mass),
        "TypicalLogitsWarper",
    ),
    "eta": (
        eta_filter,
        0.02,
        lambda p, eta: set(np.flatnonzero(p >= min(eta, eta**0.5 * np.exp(-np_entropy(p)))).tolist()),
        "EtaLogitsWarper",
    ),
    "top-h": (top_h_filter, 0.6, np_top_h, "TopHLogitsWarper"),
    "top-n-sigma": (top_n_sigma_filter, 1.5, lambda p, n: set(np_top_n_sigma(np.log(p), n)), None),
}
named_filters = pytest.mark.parametrize("name", FILTERS)


@named_filters
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_filter_keeps_the_set_of_its_definition(name, dtype, scale):
    ours, value, definition, _ = FILTERS[name]
    rng = np.random.default_rng(int(10 * scale))
    for _ in range(5):
        logits = (
            torch.from_numpy(scale * rng.normal(size=150))
            .to(dtype)
            .unique()[torch.from_numpy(rng.permutation(60))]
        )
        out = ours(logits, value)
        assert out.dtype == dtype and kept(out) == definition(np_softmax(logits), value)
        assert torch.equal(out[out.isfinite()], logits[out.isfinite()])


@named_filters
def test_filter_agrees_with_transformers_on_batches(name):
    ours, value, _, warper = FILTERS[name]
    if warper is None or not hasattr(logits_process, warper):
        pytest.skip(f"transformers {transformers.__version__} has no {warper}")
    theirs = getattr(logits_process, warper)(value)
    for seed, V in itertools.product(range(5), (10, 1000)):
        logits = 2 * torch.randn(6, V, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(ours(logits, value), theirs(None, logits))


@named_filters
def test_filter_treats_each_row_alone_and_tokens_by_their_logits(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0))
    out, order = ours(logits, value), torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(out[1, 2], ours(logits[1, 2], value))
    assert torch.equal(ours(logits[..., order], value), out[..., order])
    assert torch.equal(ours(logits + 3, value).isfinite(), out.isfinite())


@named_filters
def test_filter_leaves_blocked_tokens_blocked(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    blocked = logits.masked_fill(torch.arange(50) % 2 == 0, -math.inf)
    out = ours(blocked, value)
    assert (
        not out.isnan().any()
        and out[:, ::2].isinf().all()
        and torch.equal(out[:, 1::2], ours(logits[:, 1::2], value))
    )


@named_filters
@pytest.mark.parametrize(
    "wrong", [[math.nan, 0.0, 1.0], [math.inf, 0.0, 1.0], [-math.inf] * 3], ids=["NaN", "inf", "all blocked"]
)
def test_filter_refuses_rows_that_are_no_distribution(name, wrong):
    """They came back as a row of -inf, without a word."""
    ours, value, *_ = FILTERS[name]
    with pytest.raises(ValueError, match="^logits: .* accepted"):
        ours(torch.tensor([[0.0, 1.0, 2.0], wrong]), value)


@named_filters
def test_filter_compiles_as_one_graph(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    compiled = torch.compile(lambda x: ours(x, value), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits), ours(logits, value))


@named_filters
def test_filter_passes_the_gradient_of_the_tokens_it_keeps(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(2, 30, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: ours(x, value).masked_fill(ours(x, value).isinf(), 0), logits)


with_ties = st.lists(st.integers(-12, 12), min_size=1, max_size=40).map(
    lambda values: torch.tensor(values) / 2
)


@given(with_ties, st.integers(1, 45))
@settings(max_examples=100, deadline=None)
def test_top_k_is_exactly_k_also_where_ties_make_transformers_keep_more(logits, k):
    out = top_k_filter(logits, k)
    assert out.isfinite().sum() == min(k, len(logits))
    assert sorted(logits[out.isfinite()].tolist()) == sorted(logits.tolist())[-k:]


def test_top_k_keeps_the_lower_ids_of_a_tie():
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert top_k_filter(logits, 2).isfinite().tolist() == [[False, True, True, False]]
    assert logits_process.TopKLogitsWarper(2)(None, logits).isfinite().sum() == 3  # the defect


@given(with_ties, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_top_p_is_the_smallest_set_that_holds_the_mass(logits, top_p):
    out, p = top_p_filter(logits, top_p), logits.double().softmax(-1)
    inside, outside = p[out.isfinite()], p[out.isinf()]
    assert inside.sum() >= top_p - 1e-6
    if top_p < 1:
        assert len(inside) == 1 or inside.sum() - inside.min() <= top_p + 1e-6
    assert len(outside) == 0 or inside.min() >= outside.max() - 1e-9


@given(with_ties, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_min_p_keeps_the_most_probable_token_and_what_is_near_it(logits, min_p):
    out, p = min_p_filter(logits, min_p), logits.double().softmax(-1)
    border = min_p * p.max()
    assert out[logits.argmax()].isfinite()
    assert (p[out.isfinite()] >= border * (1 - 1e-5)).all() and (p[out.isinf()] < border * (1 + 1e-5)).all()


@given(with_ties, st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_typical_is_the_smallest_set_of_the_most_typical_tokens(logits, mass):
    out, log_p = typical_filter(logits, mass), logits.double().log_softmax(-1)
    p = log_p.exp()
    distance, inside = (-log_p - (-p * log_p).sum()).abs(), out.isfinite()
    assert p[inside].sum() >= mass - 1e-6
    assert inside.all() or distance[inside].max() <= distance[~inside].min() + 1e-5
    if mass < 1 and inside.sum() > 1:
        assert p[inside].sum() - p[inside & (distance >= distance[inside].max() - 1e-5)].min() <= mass + 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_top_n_sigma_is_the_formula_at_every_temperature(dtype):
    for seed, n in itertools.product(range(5), (0.0, 0.5, 1.0, 3.0)):
        logits = 3 * torch.randn(4, 60, generator=torch.Generator().manual_seed(seed)).to(dtype)
        for temperature in (1.0, 0.5, 4.0):
            out = top_n_sigma_filter(logits / temperature, n)
            for row, filtered in zip(logits.double().numpy(), out):
                assert kept(filtered) == set(np_top_n_sigma(row, n)), (n, temperature)


def test_top_n_sigma_of_one_token_left_keeps_it():
    logits = torch.tensor([[-math.inf, 2.0, -math.inf]])
    assert torch.equal(top_n_sigma_filter(logits, 1.0), logits)
    assert torch.equal(top_n_sigma_filter(logits[:, 1:2], 0.0), logits[:, 1:2])


def test_filters_at_the_ends_of_their_ranges():
    logits = torch.tensor([[0.1, 2.0, -1.0, 2.0]])
    for filtered in (
        top_k_filter(logits, 9),
        top_p_filter(logits, 1),
        min_p_filter(logits, 0),
        typical_filter(logits, 1),
    ):
        assert torch.equal(filtered, logits)
    assert top_p_filter(logits, 0).isfinite().tolist() == [[False, True, False, False]]
    assert min_p_filter(logits, 1).isfinite().tolist() == [[False, True, False, True]]
    assert eta_filter(torch.zeros(1, 50), 0.999999).isfinite().all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ngram_blocking_agrees_with_transformers(size):
    theirs = logits_process.NoRepeatNGramLogitsProcessor(size)
    for seed, T in itertools.product(range(5), (1, 2, 3, 12)):
        generator = torch.Generator().manual_seed(seed)
        ids, logits = torch.randint(5, (4, T), generator=generator), torch.randn(4, 5, generator=generator)
        assert torch.equal(block_repeated_ngrams(logits, ids, size), theirs(ids, logits))


# ------------------------------------------------------------------------------------------------ greedy and
# beam search


def random_case(seed):
    """A tiny model in float64, two to four prompts of different length padded on the left, options of both
    searches and of beams.
    """
    rng = np.random.RandomState(5000 + seed)
    model = tiny_gpt2(
        seed, vocab_size=24, hidden_size=(16, 32)[rng.randint(2)], num_layers=rng.randint(1, 3), std=0.4
    )
    lengths = rng.choice(np.arange(1, 9), size=rng.randint(2, 5), replace=False)
    ids, mask = (
        torch.full((len(lengths), lengths.max()), PAD),
        torch.zeros(len(lengths), lengths.max(), dtype=torch.long),
    )
    for row, n in enumerate(lengths):
        ids[row, -n:], mask[row, -n:] = torch.from_numpy(rng.randint(12, 24, size=n)), 1
    model.generation_config.eos_token_id = (None, 2, [2, 5], [2, 4, 5, 6, 7, 8, 9])[rng.randint(4)]
    shared = {
        "attention_mask": mask,
        "max_new_tokens": int(rng.randint(3, 8)),
        "no_repeat_ngram_size": int(rng.randint(4)),
    }
    K = int(rng.randint(2, 6))
    beams = {
        "num_beams": K,
        "length_penalty": (1.0, 0.0, 0.6, 2.0, -1.0)[rng.randint(5)],
        "early_stopping": (False, True, "never")[rng.randint(3)],
        "num_return_sequences": int(rng.randint(1, K + 1)),
    }
    return model, ids, shared, beams


@pytest.mark.parametrize("chunk", range(8))
def test_greedy_and_beam_agree_with_generate_on_200_random_models(chunk):
    ended = 0
    for seed in range(25 * chunk, 25 * chunk + 25):
        model, ids, shared, beams = random_case(seed)
        found = greedy_search(model, ids, **shared)
        assert torch.equal(found, model.generate(ids, do_sample=False, **shared)), seed
        assert torch.equal(
            beam_search(model, ids, **shared, **beams),
            model.generate(ids, do_sample=False, **shared, **beams),
        ), seed
        ended += int((found[:, -1] == PAD).any())
    assert ended >= 3, "end tokens hardly came: the test would not see how rows end"


def test_greedy_agrees_with_generate_in_half_and_single_precision():
    for seed, dtype in itertools.product(range(5), (torch.float32, torch.bfloat16)):
        model, (ids, mask) = tiny_gpt2(seed).to(dtype), prompts(seed, 3)
        theirs = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
        assert torch.equal(greedy_search(model, ids, 10, attention_mask=mask), theirs)


SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
ARCHITECTURES = {  # cached, with learned, rotary and no positions, sliding windows, shared heads
    "Llama": SIZES,
    "Mistral": SIZES | {"sliding_window": 4, "num_key_value_heads": 1},
    "Gemma2": SIZES | {"sliding_window": 4, "num_key_value_heads": 1, "head_dim": 4},
    "GPTNeoX": SIZES,
    "OPT": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 16,
        "max_position_embeddings": 32,
        "word_embed_proj_dim": 8,
    },
    "Bloom": {"hidden_size": 8, "n_layer": 2, "n_head": 2},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_and_beam_agree_with_generate_on_other_architectures(name):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 24,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "initializer_range": 0.4,
    } | ARCHITECTURES[name]
    model = getattr(transformers, f"{name}ForCausalLM")(
        getattr(transformers, f"{name}Config")(**sizes)
    ).eval()
    ids, mask = prompts(1, 3, vocab_size=24)
    shared = {"attention_mask": mask, "max_new_tokens": 8}
    assert torch.equal(greedy_search(model, ids, **shared), model.generate(ids, do_sample=False, **shared))
    assert torch.equal(
        beam_search(model, ids, num_beams=3, **shared),
        model.generate(ids, num_beams=3, do_sample=False, **shared),
    )
    assert contrastive_search(model, ids, **shared).shape[0] == 3


def all_sequences(vocab_size, length):
    """Every continuation of ``length`` tokens, or shorter with an end token last."""
    for n in range(1, length + 1):
        for tokens in itertools.product(range(vocab_size), repeat=n):
            if EOS not in tokens[:-1] and (n == length or tokens[-1] == EOS):
                yield tokens


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_beam_search_finds_the_best_of_all_sequences_of_a_tiny_vocabulary(length_penalty, seed):
    model, prompt, length = tiny_gpt2(seed, vocab_size=4), [0, 1, 3], 4
    scored = []
    for tokens in all_sequences(4, length):
        with torch.no_grad():
            log_p = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        scored.append(
            (
                sum(log_p[i, token].item() for i, token in enumerate(tokens)) / len(tokens) ** length_penalty,
                tokens,
            )
        )
    best = sorted(scored, reverse=True)[:3]
    options = {
        "num_beams": 64,
        "length_penalty": length_penalty,
        "early_stopping": "never",
        "num_return_sequences": 3,
    }
    found = beam_search(model, torch.tensor([prompt]), length, **options)
    width = max(len(tokens) for _, tokens in best)
    assert found[:, 3:].tolist() == [[*tokens, *[PAD] * (width - len(tokens))] for _, tokens in best]
    scores = sequence_log_prob(model, found, 3, length_penalty=length_penalty)
    torch.testing.assert_close(
        scores, torch.tensor([score for score, _ in best], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


def test_one_beam_is_greedy_search_and_one_group_is_beam_search():
    for seed in range(4):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        shared = {"attention_mask": mask, "max_new_tokens": 7}
        assert torch.equal(
            beam_search(model, ids, num_beams=1, eos_token_id=[], **shared),
            greedy_search(model, ids, eos_token_id=[], **shared),
        )
        assert torch.equal(
            diverse_beam_search(model, ids, num_beams=3, num_beam_groups=1, **shared),
            beam_search(model, ids, num_beams=3, **shared),
        )


def test_beam_search_with_more_beams_than_the_vocabulary_has_continuations():
    model = bigrams(vocab_size=4)
    found = beam_search(model, torch.tensor([[0]]), 2, num_beams=16, num_return_sequences=13)
    distinct = {tuple(row) for row in found[:, 1:].tolist()}
    assert (
        distinct == {(*tokens, *[PAD] * (2 - len(tokens))) for tokens in all_sequences(4, 2)}
        and len(distinct) == 13
    )


def test_finished_beams_are_padded_with_pad_also_where_its_id_is_zero():
    model, ids = bigrams(scale=0.5), torch.randint(4, 12, (6, 2), generator=torch.Generator().manual_seed(0))
    zero, one = (
        beam_search(model, ids, 6, num_beams=3, num_return_sequences=3, pad_token_id=pad) for pad in (0, 1)
    )
    after = (zero == EOS).long().cumsum(1) - (zero == EOS).long() > 0
    assert after.any() and (zero[after] == 0).all() and torch.equal(zero.masked_fill(after, 1), one)


# ------------------------------------------------------------------------------------------------ modes that
# left transformers


RECORDED = json.loads((FIXTURES / "decoding.json").read_text())


@pytest.mark.parametrize("mode", ["contrastive_search", "diverse_beam_search"])
def test_equals_the_sequences_recorded_from_transformers_4(mode):
    cases = [case for case in RECORDED["cases"] if case["mode"] == mode]
    assert RECORDED["transformers"].startswith("4.55") and len(cases) >= 20
    for case in cases:
        ids, mask = prompts(case["seed"], case["batch"], padded=case["padded"])
        found = getattr(decoding, mode)(tiny_gpt2(case["seed"]), ids, attention_mask=mask, **case["options"])
        assert found.tolist() == case["sequences"], case


def plain_contrastive(model, tokens, new, alpha, k):
    """Equation (1) of the module, one row, in float64, the whole prefix again for each candidate."""

    def run(tokens):
        with torch.no_grad():
            out = model(torch.tensor([tokens]), output_hidden_states=True)
        return out.logits[0, -1].double(), out.hidden_states[-1][0].double()

    for _ in range(new):
        logits, states = run(tokens)
        p = logits.softmax(-1)
        scores = {}
        for v in p.topk(k).indices.tolist():
            state = run([*tokens, v])[1][-1]
            scores[v] = (1 - alpha) * p[v] - alpha * max(
                torch.cosine_similarity(state, earlier, dim=0) for earlier in states
            )
        tokens = [*tokens, max(scores, key=scores.get)]
    return tokens


def plain_diverse(model, tokens, new, beams, groups, penalty):
    """Algorithm 1 of Vijayakumar et al., one prompt, without end tokens, in float64, the whole prefix again
    in each step.
    """
    size = beams // groups
    found = [[(0.0, list(tokens))] for _ in range(groups)]
    for _ in range(new):
        chosen = []
        for g in range(groups):
            options = []
            for score, prefix in found[g]:
                with torch.no_grad():
                    log_p = model(torch.tensor([prefix])).logits[0, -1].double().log_softmax(-1)
                options += [
                    (score + log_p[v].item() - penalty * chosen.count(v), [*prefix, v])
                    for v in range(len(log_p))
                ]
            found[g] = sorted(options, reverse=True)[:size]
            chosen += [prefix[-1] for _, prefix in found[g]]
    return [prefix for _, prefix in sorted(itertools.chain(*found), reverse=True)]


@pytest.mark.parametrize("seed", range(4))
def test_contrastive_search_equals_a_plain_float64_loop(seed):
    model, (ids, _) = tiny_gpt2(seed, num_layers=2), prompts(seed, 1, padded=False)
    alpha, k = [(0.6, 4), (0.2, 5), (0.9, 2), (0.5, 3)][seed]
    found = contrastive_search(model, ids, 8, penalty_alpha=alpha, top_k=k, eos_token_id=[])
    assert found[0].tolist() == plain_contrastive(model, ids[0].tolist(), 8, alpha, k)


@pytest.mark.parametrize("seed", range(4))
def test_diverse_beam_search_equals_a_plain_float64_loop(seed):
    model, (ids, _) = tiny_gpt2(seed, num_layers=2), prompts(seed, 1, padded=False)
    beams, groups, penalty = [(4, 2, 0.5), (6, 3, 1.0), (3, 3, 2.0), (4, 1, 0.0)][seed]
    found = diverse_beam_search(
        model, ids, 5, beams, groups, penalty, eos_token_id=[], num_return_sequences=beams
    )
    assert found.tolist() == plain_diverse(model, ids[0].tolist(), 5, beams, groups, penalty)


def test_contrastive_search_compares_states_in_float32_under_autocast():
    """The model alone answers in half precision: cosines near 1 differ in digits that bfloat16 lacks."""
    model, ids = tiny_gpt2(0, vocab_size=40).float(), prompts(0, 2, vocab_size=40, padded=False)[0]
    forward = model.forward

    def without(*args, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return forward(*args, **kwargs)

    options = {"penalty_alpha": 0.9, "top_k": 8, "eos_token_id": []}
    expected = contrastive_search(model, ids, 26, **options)
    model.forward = without
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_search(model, ids, 26, **options), expected)


def test_contrastive_search_of_the_generation_config():
    """A config that asks for the penalty asks for its candidates too; a top_k for sampling is none."""
    model, ids = tiny_gpt2(0, vocab_size=40).float(), prompts(0, 2, vocab_size=40, padded=False)[0]
    model.generation_config.penalty_alpha, model.generation_config.top_k = 0.9, 12
    given = {"eos_token_id": []}
    asked = contrastive_search(model, ids, 12, **given)
    assert torch.equal(asked, contrastive_search(model, ids, 12, 0.9, 12, **given))
    four = contrastive_search(model, ids, 12, 0.9, **given)
    assert torch.equal(four, contrastive_search(model, ids, 12, 0.9, 4, **given))
    assert not torch.equal(asked, four)


def test_filters_under_vmap():
    logits = torch.randn(3, 2, 9)
    for keep in (lambda x: top_p_filter(x, 0.7), lambda x: top_k_filter(x, 3)):
        torch.testing.assert_close(torch.func.vmap(keep)(logits), keep(logits))


def test_contrastive_search_without_penalty_or_choice_is_greedy():
    for seed in range(4):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 2)
        greedy = greedy_search(model, ids, 8, attention_mask=mask)
        for penalty_alpha, top_k in ((0.0, 5), (0.7, 1)):
            assert torch.equal(
                contrastive_search(model, ids, 8, penalty_alpha, top_k, attention_mask=mask), greedy
            )


def test_contrastive_search_never_chooses_a_blocked_token_for_its_novelty():
    """With fewer tokens left than candidates, a blocked one has p = 0 and perhaps the smallest likeness."""
    only = lambda ids, scores: scores.masked_fill(torch.arange(12) != 7, -math.inf)  # noqa: E731
    assert contrastive_search(
        bigrams(eos=[]), torch.tensor([[5, 7]]), 5, 0.9, 4, logits_processor=only
    ).tolist() == [[5] + [7] * 6]


def test_contrastive_search_compares_half_precision_states_in_float32():
    model, dtypes = tiny_gpt2(0).to(torch.bfloat16), []
    normalize = torch.nn.functional.normalize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.functional, "normalize", lambda x, **k: dtypes.append(x.dtype) or normalize(x, **k)
        )
        contrastive_search(model, prompts(0, 1, padded=False)[0], 3)
    assert set(dtypes) == {torch.float32}


def test_contrastive_search_does_not_repeat_itself_where_greedy_does():
    table = torch.full((12, 12), -3.0)
    table[torch.arange(12), torch.arange(12)], table[torch.arange(12), (torch.arange(12) + 1) % 12] = (
        1.0,
        0.8,
    )  # itself, or else the next id
    model = Bigrams(table, eos=[])
    assert greedy_search(model, torch.tensor([[4]]), 6).tolist() == [[4] * 7]
    assert len(set(contrastive_search(model, torch.tensor([[4]]), 6, 0.6, 3)[0].tolist())) == 7


def test_groups_choose_different_first_tokens_under_a_strong_penalty(model):
    ids, _ = prompts(0, 1, padded=False)
    alike = diverse_beam_search(
        model, ids, 1, 4, 4, diversity_penalty=0.0, num_return_sequences=4, eos_token_id=[]
    )
    apart = diverse_beam_search(
        model, ids, 1, 4, 4, diversity_penalty=50.0, num_return_sequences=4, eos_token_id=[]
    )
    assert len(set(alike[:, -1].tolist())) == 1 and len(set(apart[:, -1].tolist())) == 4


# ------------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"typical_p": 0.6},
        {"eta_cutoff": 0.1},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.05},
    ],
    ids=str,
)
def test_sample_equals_generate_under_the_same_seed(options):
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        torch.manual_seed(seed)
        ours = sample(model, ids, 8, attention_mask=mask, **options)
        torch.manual_seed(seed)
        theirs = model.generate(
            ids, attention_mask=mask, max_new_tokens=8, do_sample=True, **({"top_k": 0} | options)
        )
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 4},
        {"top_p": 0.5},
        {"min_p": 0.3},
        {"typical_p": 0.4},
        {"eta_cutoff": 0.2},
        {"top_h": 0.5},
        {"top_n_sigma": 1.0},
        {"temperature": 3.0, "top_n_sigma": 1.0, "top_k": 3},
    ],
    ids=str,
)
def test_sample_draws_from_the_filtered_distribution_and_nothing_else(options):
    model, N = bigrams(), 4000
    by_name = {"temperature": torch.div, "top_k": top_k_filter, "top_p": top_p_filter, "min_p": min_p_filter,
               "typical_p": typical_filter, "eta_cutoff": eta_filter, "top_h": top_h_filter,
               "top_n_sigma": top_n_sigma_filter}  # fmt: skip
    logits = model.table[5].float()
    for name, value in options.items():
        logits = by_name[name](logits, value)
    p = logits.softmax(-1)
    drawn = sample(model, torch.full((N, 1), 5), 1, generator=torch.Generator().manual_seed(0), **options)[
        :, 1
    ]
    share = torch.bincount(drawn, minlength=12) / N
    assert (share[p == 0] == 0).all() and ((share - p).abs() <= 5 * (p * (1 - p) / N).sqrt() + 1e-9).all()


def test_sample_adds_no_top_k_of_50_of_its_own():
    model = Bigrams(torch.zeros(200, 200), eos=[])
    assert len(sample(model, torch.zeros(3000, 1, dtype=torch.long), 1)[:, 1].unique()) > 150


def test_sample_with_the_same_generator_state_gives_the_same_tokens(model):
    ids, _ = prompts(0, 2, padded=False)
    one, two, other = (
        sample(model, ids, 12, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


# ------------------------------------------------------------------------------------------------ what all
# modes share


@pytest.mark.parametrize("mode", MODES)
def test_a_row_does_not_depend_on_its_padding_or_its_neighbours_or_their_order(mode):
    decode, options = MODES[mode]
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 4)
        together = decode(model, ids, 8, attention_mask=mask, **options)
        order = torch.tensor([2, 0, 3, 1])
        assert torch.equal(
            decode(model, ids[order], 8, attention_mask=mask[order], **options), together[order]
        )
        for row in range(4):
            alone = decode(model, ids[row, row:][None], 8, **options)[0]
            assert together[row, row:].tolist() == alone.tolist() + [PAD] * (
                together.shape[1] - row - len(alone)
            )


@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 5),
    st.sampled_from(sorted(MODES)),
)
@settings(max_examples=60, deadline=None)
def test_any_amount_of_left_padding_gives_the_same_continuation(seed, B, T, padding, mode):
    decode, options = MODES[mode]
    model, ids = (
        bigrams(seed=seed),
        torch.randint(4, 12, (B, T), generator=torch.Generator().manual_seed(seed)),
    )
    padded, mask = (
        torch.cat([torch.full((B, padding), fill), x], dim=1)
        for fill, x in ((PAD, ids), (0, torch.ones_like(ids)))
    )
    assert torch.equal(
        decode(model, padded, 5, attention_mask=mask, **options)[:, padding:],
        decode(model, ids, 5, **options),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ends", [[], [2], [2, 5], 7])
def test_a_row_stops_at_any_end_token_and_is_padding_after_it(mode, ends):
    decode, options = MODES[mode]
    ids = torch.randint(8, 12, (16, 3), generator=torch.Generator().manual_seed(0))
    new = decode(bigrams(scale=0.5), ids, 12, eos_token_id=ends, pad_token_id=1, **options)[:, 3:].tolist()
    ends = [ends] if isinstance(ends, int) else ends
    for row in new:
        places = [i for i, token in enumerate(row) if token in ends]
        assert all(token == 1 for token in row[places[0] + 1 :]) if places else len(row) == 12


@pytest.mark.parametrize("mode", ["greedy", "contrastive"])
def test_decoding_ends_when_every_row_has_ended(mode):
    decode, options = MODES[mode]
    table = torch.full((12, 12), -5.0).scatter(
        1, ((torch.arange(12) - 1) % 12)[:, None], 9.0
    )  # counts down to the end token 2
    found = decode(Bigrams(table), torch.tensor([[5], [4]]), 50, **options)
    assert found.tolist() == [[5, 4, 3, 2], [4, 3, 2, PAD]]


def test_end_and_padding_default_from_the_generation_config_and_mask_to_ones(model):
    ids, _ = prompts(0, 2, padded=False)
    given_all = greedy_search(
        model, ids, 10, attention_mask=torch.ones_like(ids), eos_token_id=EOS, pad_token_id=PAD
    )
    assert torch.equal(greedy_search(model, ids, 10), given_all)
    model.generation_config.pad_token_id = None  # then the first end token fills
    model.generation_config.eos_token_id = [int(given_all[0, 6])]
    assert (
        greedy_search(model, ids[:1], 10).tolist()
        == given_all[:1, : given_all[0].tolist().index(int(given_all[0, 6]), 5) + 1].tolist()
    )


def test_end_tokens_outside_a_small_vocabulary_are_left_out(model):
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = (
        50256  # GPT-2's default in a model of 10 tokens
    )
    ids, _ = prompts(0, 1, padded=False)
    assert torch.equal(greedy_search(model, ids, 6), greedy_search(model, ids, 6, eos_token_id=[]))


@pytest.mark.parametrize("mode", MODES)
def test_the_prefix_is_computed_once_not_in_every_step(mode):
    decode, options = MODES[mode]
    model = bigrams()
    decode(model, torch.full((2, 7), 5), 6, eos_token_id=[], **options)
    assert model.columns_seen == [7] + [1] * (len(model.columns_seen) - 1) and len(model.columns_seen) in (
        6,
        7,
    )


@pytest.mark.parametrize("mode", ["greedy", "sample", "contrastive"])
def test_tokens_are_streamed_as_they_come(mode, model):
    decode, options = MODES[mode]
    ids, mask = prompts(1, 3)
    columns = []
    found = decode(model, ids, 9, attention_mask=mask, on_token=columns.append, **options)
    assert torch.equal(torch.stack(columns, dim=1), found[:, 5:])


def test_length_criterion_of_the_caller_is_not_dropped_outside_generate(model):
    """generate hands on criteria for length and end tokens, which are ours already; the caller's own are
    others.
    """
    ids, _ = prompts(0, 2, padded=False)
    stopped = greedy_search(
        model, ids, 9, eos_token_id=[], stopping_criteria=transformers.MaxLengthCriteria(8)
    )
    assert torch.equal(stopped, greedy_search(model, ids, 3, eos_token_id=[]))
    stopped = greedy_search(
        model,
        ids,
        9,
        eos_token_id=[],
        stopping_criteria=transformers.StoppingCriteriaList([transformers.MaxLengthCriteria(8)]),
    )
    assert stopped.shape == (2, 8)


@pytest.mark.parametrize("mode", ["greedy", "sample", "contrastive"])
def test_stopping_criteria_of_the_caller_end_rows(mode, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 2, padded=False)
    free = decode(model, ids, 9, eos_token_id=[], **options)
    at_length = lambda ids, scores: torch.tensor([ids.shape[1] >= 7, ids.shape[1] >= 9])  # noqa: E731
    stopped = decode(model, ids, 9, eos_token_id=[], stopping_criteria=at_length, **options)
    assert stopped.shape == (2, 9) and torch.equal(stopped[1], free[1, :9])
    assert torch.equal(stopped[0, :7], free[0, :7]) and (stopped[0, 7:] == PAD).all()


@pytest.mark.parametrize("mode", MODES)
def test_logits_processors_of_the_caller_are_used(mode, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 2, padded=False)
    forbid = lambda ids, scores: scores.index_fill(1, torch.tensor([0, 4, 5, 6]), -math.inf)  # noqa: E731
    assert not torch.isin(
        decode(model, ids, 9, logits_processor=forbid, **options)[:, 5:], torch.tensor([0, 4, 5, 6])
    ).any()


@pytest.mark.parametrize("mode", MODES)
def test_no_ngram_stands_twice(mode, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 3, padded=False)
    for row in decode(model, ids, 14, no_repeat_ngram_size=2, eos_token_id=[], **options).tolist():
        pairs = list(zip(row[4:], row[5:]))
        assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("mode", MODES)
def test_runs_under_generate(mode, model):
    decode, options = MODES[mode]
    ids, mask = prompts(2, 3)
    expected = decode(model, ids, 8, attention_mask=mask, **options)
    custom = lambda model, ids, **given: decode(model, ids, **options, **given)  # noqa: E731
    assert torch.equal(
        model.generate(ids, attention_mask=mask, max_new_tokens=8, custom_generate=custom), expected
    )
    if VERSION >= (4, 57):  # options in the call itself; generate then says that it does not know the length
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using the model-agnostic default")
            assert torch.equal(
                model.generate(ids, attention_mask=mask, max_new_tokens=8, custom_generate=decode, **options),
                expected,
            )


def test_generate_hands_its_processors_and_criteria_on(model):
    ids, _ = prompts(0, 2, padded=False)
    custom = lambda model, ids, **given: greedy_search(model, ids, **given)  # noqa: E731
    for options in (
        {"repetition_penalty": 3.0},
        {"bad_words_ids": [[4], [5]]},
        {"min_new_tokens": 6},
        {"max_length": 9},
    ):
        options = {"max_new_tokens": 8} | options if "max_length" not in options else options
        assert torch.equal(
            model.generate(ids, custom_generate=custom, **options),
            model.generate(ids, do_sample=False, **options),
        )


# ------------------------------------------------------------------------------------------------ what a
# generation config asks for


ASKED = {  # each changes what is said
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 0.2,
    "min_length": 12,
    "min_new_tokens": 6,
    "suppress_tokens": [4, 7],
    "begin_suppress_tokens": [4, 5, 7, 8],
    "bad_words_ids": [[4], [7, 7], [9]],
    "forced_eos_token_id": EOS,
    "sequence_bias": [[[4], -9.0], [[6], 5.0]],
    "exponential_decay_length_penalty": (1, 3.0),
    "guidance_scale": 3.0,
    "watermarking_config": transformers.WatermarkingConfig(bias=4.0, greenlist_ratio=0.5),
    "max_new_tokens": 3,
}


def says(config, mode, model, seed=0, **options):
    """The mode and ``generate`` under the model's own config, and the mode under one that is passed."""
    ids, mask = prompts(seed, 3)
    given = {"attention_mask": mask} | ({} if "max_new_tokens" in config else {"max_new_tokens": 8})
    alone = mode(model, ids, **given, **options)
    passed = mode(model, ids, **given, **options, generation_config=transformers.GenerationConfig(**config))
    for name, value in config.items():
        setattr(model.generation_config, name, value)
    theirs = model.generate(ids, do_sample=False, **given, **options)
    return mode(model, ids, **given, **options), passed, theirs, alone


@pytest.mark.parametrize("name", ASKED)
def test_what_a_generation_config_asks_for_is_done_as_generate_does_it(name):
    changed = False
    for seed in range(6):
        if name == "max_new_tokens":
            model, (ids, _) = tiny_gpt2(seed), prompts(seed, 1, padded=False)
            model.generation_config.max_new_tokens = 3
            assert greedy_search(model, ids, eos_token_id=[]).shape[1] == 8
            return
        ours, passed, theirs, alone = says({name: ASKED[name]}, greedy_search, tiny_gpt2(seed), seed)
        assert torch.equal(ours, theirs) and torch.equal(passed, theirs), seed
        changed |= not torch.equal(ours, alone)
    assert changed, "the option changes nothing: the test would not see it ignored"


EVERY_BEAM = "repeat_interleave" in inspect.getsource(
    transformers.EncoderRepetitionPenaltyLogitsProcessor.__call__
)  # of late versions


@pytest.mark.parametrize(
    "name", sorted(ASKED.keys() - {"guidance_scale", "watermarking_config", "max_new_tokens"})
)
def test_beams_do_what_a_generation_config_asks_for(name):
    if name == "encoder_repetition_penalty" and not EVERY_BEAM:
        pytest.skip("generate itself penalises the first beams only")
    changed = False
    for seed in range(6):
        ours, passed, theirs, alone = says(
            {name: ASKED[name]}, beam_search, tiny_gpt2(seed), seed, num_beams=3
        )
        assert torch.equal(ours, theirs) and torch.equal(passed, theirs), seed
        changed |= not torch.equal(ours, alone)
    assert changed


LIMITS = {"repetition_penalty": 2.5, "no_repeat_ngram_size": 2, "min_new_tokens": 5}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(
    "mode, options", [(greedy_search, {}), (beam_search, {"num_beams": 3, "length_penalty": -1.0})]
)
def test_limits_are_arguments_by_the_names_of_generate(name, mode, options):
    changed = False
    for seed in range(6):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        shared = {"attention_mask": mask, "max_new_tokens": 8, **options}
        free = mode(model, ids, **shared)
        theirs = model.generate(ids, do_sample=False, **shared, **{name: LIMITS[name]})
        setattr(model.generation_config, name, 1)  # the argument counts
        assert torch.equal(mode(model, ids, **shared, **{name: LIMITS[name]}), theirs)
        changed |= not torch.equal(theirs, free)
    assert changed


@pytest.mark.parametrize("mode", MODES)
def test_limits_hold_in_every_mode(mode):
    decode, options = MODES[mode]
    for seed in range(3):
        model, (ids, _) = tiny_gpt2(seed), prompts(seed, 2, padded=False)
        found = decode(model, ids, 8, min_new_tokens=6, repetition_penalty=1.5, **options)
        assert not (found[:, 5:11] == EOS).any()
        assert not torch.equal(found, decode(model, ids, 8, min_new_tokens=6, **options)) or seed


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 0.4},
        {"top_k": 3},
        {"top_p": 0.6, "temperature": 1.7},
        {"min_p": 0.2},
        {"typical_p": 0.5},
        {"epsilon_cutoff": 0.1},
        {"eta_cutoff": 0.2},
        {"num_return_sequences": 2, "do_sample": True},
    ],
    ids=str,
)
def test_sample_takes_temperature_and_filters_from_the_generation_config(asked):
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        for name, value in asked.items():
            setattr(model.generation_config, name, value)
        by = {"attention_mask": mask, "max_new_tokens": 8}
        torch.manual_seed(seed)
        ours = sample(model, ids, **by)
        torch.manual_seed(seed)
        theirs = model.generate(ids, **({"do_sample": True, "top_k": 0} | asked), **by)
        assert torch.equal(ours, theirs)
        torch.manual_seed(seed)
        under = model.generate(
            ids, custom_generate=lambda *a, **k: sample(*a, **k), do_sample=True, top_k=0, **by
        )
        torch.manual_seed(seed)
        assert torch.equal(under, model.generate(ids, do_sample=True, top_k=0, **by))


def test_an_argument_of_sample_counts_and_stands_where_generate_has_it():
    model, (ids, mask) = tiny_gpt2(1), prompts(1, 3)
    model.generation_config.temperature, model.generation_config.top_p = 0.3, 0.7
    for arguments in ({"temperature": 1.5}, {"top_k": 4}, {"temperature": 1.2, "min_p": 0.1}):
        torch.manual_seed(0)
        ours = sample(model, ids, 9, attention_mask=mask, **arguments)
        torch.manual_seed(0)
        theirs = model.generate(
            ids, attention_mask=mask, max_new_tokens=9, do_sample=True, **({"top_k": 0} | arguments)
        )
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "asked",
    [{"num_beams": 3}, {"num_beams": 4, "length_penalty": -1.0}, {"num_beams": 3, "early_stopping": True},
     {"num_beams": 3, "num_return_sequences": 2}],
    ids=str,
)  # fmt: skip
def test_beam_search_takes_its_own_parameters_from_the_generation_config(asked):
    for seed in range(4):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        by = {"attention_mask": mask, "max_new_tokens": 6}
        theirs = model.generate(ids, do_sample=False, **by, **asked)
        given = beam_search(model, ids, **by, **asked)
        for name, value in asked.items():
            setattr(model.generation_config, name, value)
        assert torch.equal(beam_search(model, ids, **by), theirs) and torch.equal(given, theirs)
        passed = transformers.GenerationConfig(**asked)
        assert torch.equal(beam_search(tiny_gpt2(seed), ids, **by, generation_config=passed), theirs)


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_beams", 4),
        ("num_return_sequences", 3),
        ("penalty_alpha", 0.6),
        ("dola_layers", "high"),
        ("prompt_lookup_num_tokens", 3),
        ("stop_strings", ["."]),
        ("return_dict_in_generate", True),
        ("token_healing", True),
    ],
)
def test_what_would_be_another_mode_or_output_is_refused_before_the_first_token(name, value, model):
    ids, _ = prompts(0, 1, padded=False)
    setattr(model.generation_config, name, value)
    seen = []
    with pytest.raises(ValueError, match=f"^{name}: .* accepted"):
        greedy_search(model, ids, 4, on_token=seen.append)
    fresh, config = tiny_gpt2(0), transformers.GenerationConfig()
    setattr(config, name, value)
    with pytest.raises(ValueError, match=f"^{name}: .* accepted"):
        greedy_search(fresh, ids, 4, generation_config=config, on_token=seen.append)
    assert not seen


def test_rows_that_generate_has_repeated_for_beams_are_refused(model):
    ids, _ = prompts(0, 2, padded=False)
    with pytest.raises(ValueError, match="^num_beams: .* accepted"):
        model.generate(
            ids, max_new_tokens=4, num_beams=2, custom_generate=lambda *a, **k: beam_search(*a, **k)
        )


@pytest.mark.parametrize("name", ["repetition_penalty", "min_new_tokens"])
def test_limits_under_generate_are_generates_own_and_a_plain_module_has_none(name, model):
    ids, _ = prompts(0, 2, padded=False)
    limited = lambda *a, **k: greedy_search(*a, **k, **{name: 2})  # noqa: E731
    with pytest.raises(ValueError, match=f"^{name}: .* accepted"):
        model.generate(ids, max_new_tokens=4, custom_generate=limited)
    with pytest.raises(ValueError, match=f"^{name}: .* accepted"):
        greedy_search(bigrams(), ids, 4, **{name: 2})


@pytest.mark.parametrize("mode", ["greedy", "sample", "beam", "diverse"])
def test_a_cache_of_fixed_size_says_the_same(mode):
    decode, options = MODES[mode]
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        expected = decode(model, ids, 8, attention_mask=mask, **options)
        model.generation_config.cache_implementation = "static"
        assert torch.equal(decode(model, ids, 8, attention_mask=mask, **options), expected)
    with pytest.raises(ValueError, match="^cache_implementation: .* accepted"):
        contrastive_search(model, ids, 8)


# ------------------------------------------------------------------------------------------------ what the
# model sees


@pytest.mark.parametrize("mode", ["greedy", "sample", "beam", "diverse"])
def test_the_last_new_token_needs_no_position(mode):
    decode, options = MODES[mode]
    model, ids = tiny_gpt2(0, positions=8), torch.randint(4, 10, (2, 6))
    assert decode(model, ids, 3, eos_token_id=[], **options).shape[1] == 9
    with pytest.raises(ValueError, match="^max_new_tokens: .* accepted"):
        decode(model, ids, 4, eos_token_id=[], **options)
    assert sequence_log_prob(model, decode(model, ids, 3, eos_token_id=[], **options), 6).shape == (2,)


def test_contrastive_search_looks_at_the_last_token_too():
    model, ids = tiny_gpt2(0, positions=8), torch.randint(4, 10, (2, 6))
    assert contrastive_search(model, ids, 2, eos_token_id=[]).shape == (2, 8)
    with pytest.raises(ValueError, match="^max_new_tokens: .* accepted"):
        contrastive_search(model, ids, 3)


def tiny(name, **more):
    torch.manual_seed(0)
    sizes = (
        SIZES | {"vocab_size": 24, "eos_token_id": EOS, "pad_token_id": PAD, "initializer_range": 0.4} | more
    )
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**sizes)).eval()


ROPE = "rope_parameters" if VERSION >= (5, 0) else "rope_scaling"


@pytest.mark.parametrize("kind", [{"rope_type": "linear"}, {"rope_type": "dynamic"},
                         {"rope_type": "yarn", "original_max_position_embeddings": 8}], ids=str)  # fmt: skip
def test_scaled_rotary_positions_reach_beyond_max_position_embeddings(kind):
    rope = kind | {"factor": 4.0} | ({"rope_theta": 10000.0} if ROPE == "rope_parameters" else {})
    model, (ids, mask) = (
        tiny("Llama", max_position_embeddings=8, **{ROPE: rope}),
        prompts(1, 3, vocab_size=24),
    )
    shared = {"attention_mask": mask, "max_new_tokens": 15, "eos_token_id": []}
    theirs = model.generate(ids, do_sample=False, **shared | {"eos_token_id": None})
    assert torch.equal(greedy_search(model, ids, **shared), theirs)
    assert sequence_log_prob(model, theirs, 5, mask, eos_token_id=[]).isfinite().all()


def test_unscaled_rotary_positions_end_where_the_model_says():
    with pytest.raises(ValueError, match="^max_new_tokens: .* accepted"):
        greedy_search(tiny("Llama", max_position_embeddings=8), prompts(1, 3, vocab_size=24)[0], 15)


@pytest.mark.parametrize(
    "name, more",
    [
        ("Roberta", {"is_decoder": True}),  # counts positions from its padding id on where it counts itself
        ("Jamba", {"num_key_value_heads": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2,
                   "use_mamba_kernels": False, "mamba_d_state": 4, "mamba_dt_rank": 2}),
        ("Bert", {"is_decoder": True}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("padded", [False, True])
def test_positions_are_those_of_generate_with_padding_and_without(name, more, padded):
    class_name = {"Bert": "BertLMHeadModel"}.get(name, f"{name}ForCausalLM")
    torch.manual_seed(0)
    sizes = (
        SIZES | {"vocab_size": 24, "eos_token_id": EOS, "pad_token_id": PAD, "initializer_range": 0.4} | more
    )
    model = getattr(transformers, class_name)(getattr(transformers, f"{name}Config")(**sizes)).eval()
    ids, mask = prompts(1, 3, vocab_size=24, padded=padded)
    shared = {"attention_mask": mask, "max_new_tokens": 7}
    assert torch.equal(greedy_search(model, ids, **shared), model.generate(ids, do_sample=False, **shared))
    assert torch.equal(
        beam_search(model, ids, num_beams=3, **shared),
        model.generate(ids, do_sample=False, num_beams=3, **shared),
    )
    out = model.generate(
        ids,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **shared | {"eos_token_id": None},
    )
    log_p = torch.stack(out.scores, dim=1).log_softmax(-1).gather(-1, out.sequences[:, 5:, None])
    ours = sequence_log_prob(model, out.sequences, 5, mask, eos_token_id=[])
    torch.testing.assert_close(ours, log_p.sum(dim=(1, 2)), rtol=1e-4, atol=1e-4)


def test_a_cache_whose_rows_cannot_change_places_is_refused_for_beams_and_candidates():
    sizes = {"vocab_size": 24, "hidden_size": 8, "attention_hidden_size": 8, "num_hidden_layers": 2}
    torch.manual_seed(0)
    model = transformers.RwkvForCausalLM(transformers.RwkvConfig(**sizes)).eval()
    ids = torch.randint(4, 24, (2, 4))
    assert torch.equal(greedy_search(model, ids, 5), model.generate(ids, max_new_tokens=5, do_sample=False))
    for mode in (beam_search, diverse_beam_search, contrastive_search):
        with pytest.raises(TypeError, match="^model: RwkvForCausalLM .* accepted"):
            mode(model, ids, 5)


PEFT_WARNING = "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"


@pytest.mark.filterwarnings(PEFT_WARNING)
@pytest.mark.parametrize("mode", MODES)
def test_low_rank_adapters_decode_as_the_model_inside(mode):
    peft = pytest.importorskip("peft")
    decode, options = MODES[mode]
    model, (ids, mask) = tiny_gpt2(0), prompts(0, 3)
    lora = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    found = decode(lora.eval(), ids, 8, attention_mask=mask, **options)
    inside = decode(lora.base_model.model, ids, 8, attention_mask=mask, **options)
    with lora.disable_adapter():
        without = decode(lora, ids, 8, attention_mask=mask, **options)
    assert torch.equal(found, inside) and not torch.equal(found, without)


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_virtual_tokens_are_refused():
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(TypeError, match="^model: .*virtual tokens.* accepted"):
        greedy_search(peft.get_peft_model(tiny_gpt2(0).float(), config).eval(), prompts(0, 1)[0], 3)


NO_DECODERS = {
    "masked": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, vocab_size=24)),
    "both sides": lambda: transformers.BertLMHeadModel(
        transformers.BertConfig(**SIZES, vocab_size=24, is_decoder=False)
    ),
    "classifier": lambda: transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(vocab_size=24, n_embd=8, n_layer=1, n_head=2)
    ),
    "no head": lambda: transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=24, n_embd=8, n_layer=1, n_head=2)
    ),
    "permuted": lambda: transformers.XLNetLMHeadModel(
        transformers.XLNetConfig(vocab_size=24, d_model=8, n_layer=1, n_head=2, d_inner=8)
    ),
}


@pytest.mark.parametrize("kind", NO_DECODERS)
def test_sequence_log_prob_refuses_what_does_not_predict_the_next_token(kind):
    with pytest.raises(TypeError, match="^model: .* accepted"):
        sequence_log_prob(NO_DECODERS[kind]().eval(), torch.tensor([[4, 5, 6]]))


@pytest.mark.parametrize("kind", NO_DECODERS.keys() - {"permuted"})
def test_decoding_refuses_what_does_not_predict_the_next_token(kind):
    with pytest.raises(TypeError, match="^model: .* accepted"):
        greedy_search(NO_DECODERS[kind]().eval(), torch.tensor([[4, 5, 6]]), 2)


# ------------------------------------------------------------------------------------------------ streamers


class Words:
    def decode(self, ids, **options):
        return " ".join(f"w{int(i)}" for i in ids)


def said_by(streamer, call) -> str:
    """What a reader in this thread gets while ``call`` runs in another one."""
    threading.Thread(target=call, args=(streamer,), daemon=True).start()
    return "".join(streamer).strip()


@pytest.mark.parametrize("mode", ["greedy", "sample", "contrastive"])
@pytest.mark.parametrize("skip_prompt", [False, True])
def test_a_streamer_gets_every_word_and_its_end(mode, skip_prompt, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 1, padded=False)
    new = decode(model, ids, 6, eos_token_id=[], **options)[0, 5:]
    prompt = [] if skip_prompt else ids[0].tolist()
    ways = {
        "on_token": (new, lambda s: decode(model, ids, 6, eos_token_id=[], on_token=s.put, **options)),
        "streamer": (
            [*prompt, *new],
            lambda s: decode(model, ids, 6, eos_token_id=[], streamer=s, **options),
        ),
        "generate": (
            [*prompt, *new],
            lambda s: model.generate(
                ids, max_new_tokens=6, eos_token_id=None, streamer=s,
                custom_generate=lambda *a, **k: decode(*a, **k, **options),
            ),
        ),
    }  # fmt: skip
    for way, (expected, call) in ways.items():
        streamer = transformers.TextIteratorStreamer(Words(), skip_prompt=skip_prompt, timeout=60)
        assert said_by(streamer, call) == Words().decode(expected), way


class Ended:
    def __init__(self):
        self.got, self.ends = [], 0

    def put(self, tokens):
        self.got.append(tokens)

    def end(self):
        self.ends += 1


@pytest.mark.parametrize("mode", ["greedy", "sample", "contrastive"])
def test_a_streamer_is_ended_once_also_where_a_step_fails(mode, model):
    decode, options = MODES[mode]

    def failing(ids, scores):
        if ids.shape[1] == 7:
            raise RuntimeError("in the middle")
        return scores

    for name in ("streamer", "on_token"):
        streamer = Ended()
        how = {name: streamer if name == "streamer" else streamer.put}
        with pytest.raises(RuntimeError, match="in the middle"):
            decode(model, prompts(0, 2)[0], 6, eos_token_id=[], logits_processor=failing, **how, **options)
        assert streamer.ends == 1 and len(streamer.got) == 2 + (name == "streamer")


def test_a_streamer_of_ones_own_gets_several_rows_as_from_generate(model):
    ids, _ = prompts(0, 2, padded=False)
    ours, theirs = Ended(), Ended()
    greedy_search(model, ids, 5, streamer=ours)
    model.generate(ids, max_new_tokens=5, do_sample=False, streamer=theirs)
    assert ours.ends == theirs.ends == 1
    assert all(map(torch.equal, ours.got, theirs.got)) and len(ours.got) == len(theirs.got)


@pytest.mark.parametrize("given", ["streamer", "on_token"])
def test_a_streamer_of_one_text_refuses_two_rows(given, model):
    streamer = transformers.TextStreamer(Words())
    how = {given: streamer if given == "streamer" else streamer.put}
    with pytest.raises(ValueError, match=f"^{given}: .* accepted"):
        greedy_search(model, prompts(0, 2)[0], 4, **how)


def test_beams_have_no_streamer(model):
    with pytest.raises(ValueError, match="^streamer: .* accepted"):
        beam_search(model, prompts(0, 1)[0], 4, streamer=Ended())


# ------------------------------------------------------------------------------------------------ numbers of
# NumPy


@pytest.mark.parametrize("mode", MODES)
def test_numbers_of_numpy_are_numbers(mode, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 2, padded=False)
    numpy = {k: np.int64(v) if isinstance(v, int) else np.float32(v) for k, v in options.items()}
    more = {"no_repeat_ngram_size": 2, "min_new_tokens": 2, "eos_token_id": EOS, "pad_token_id": PAD}
    found = decode(model, ids, np.int64(6), **{k: np.int32(v) for k, v in more.items()}, **numpy,
                   repetition_penalty=np.float64(1.2))  # fmt: skip
    assert torch.equal(found, decode(model, ids, 6, repetition_penalty=1.2, **more, **options))


@named_filters
def test_filters_take_numbers_of_numpy(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    kind = np.int64 if isinstance(value, int) else np.float64
    assert torch.equal(ours(logits, kind(value)), ours(logits, value))


def test_scores_and_tables_take_numbers_of_numpy(model):
    ids, _ = prompts(0, 2, padded=False)
    assert torch.equal(
        sequence_log_prob(model, ids, np.int64(2), length_penalty=np.float64(1.0)),
        sequence_log_prob(model, ids, 2, length_penalty=1.0),
    )
    assert len(next_token_table(model, ids[:1], None, np.int64(2), np.int64(3))) == 2


@pytest.mark.parametrize("mode", MODES)
def test_result_is_usable_in_training(mode, model):
    decode, options = MODES[mode]
    ids, _ = prompts(0, 2, padded=False)
    found = decode(model, ids, 4, **options)
    model(found, labels=found).loss.backward()
    assert found.dtype == ids.dtype and model.transformer.wte.weight.grad.abs().sum() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_cuda_gives_the_tokens_of_the_cpu(mode):
    decode, options = MODES[mode]
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        expected = decode(model, ids, 8, attention_mask=mask, **options)
        assert torch.equal(
            decode(model.cuda(), ids.cuda(), 8, attention_mask=mask.cuda(), **options).cpu(), expected
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_wrong_prompt_on_cuda_is_an_ordinary_error_and_the_next_call_works():
    model, (ids, mask) = tiny_gpt2(0).cuda(), prompts(0, 2)
    for wrong in ({"input_ids": ids + 50}, {"attention_mask": mask.flip(1)}, {"attention_mask": 2 * mask}):
        given = {"input_ids": ids, "attention_mask": mask} | wrong
        with pytest.raises(ValueError, match="^(input_ids|attention_mask): .* accepted"):
            greedy_search(model, max_new_tokens=3, **{name: x.cuda() for name, x in given.items()})
    assert greedy_search(model, ids.cuda(), 3, eos_token_id=[]).shape == (2, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@named_filters
def test_cuda_filters_keep_the_tokens_of_the_cpu(name):
    ours, value, *_ = FILTERS[name]
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(logits.cuda(), value).cpu(), ours(logits, value))


# ------------------------------------------------------------------------------------------------
# log-probability and table


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 0.5])
def test_sequence_log_prob_equals_a_float64_loop_over_tokens(length_penalty):
    for seed in range(3):
        model, (ids, mask) = tiny_gpt2(seed), prompts(seed, 3)
        found = sample(model, ids, 9, attention_mask=mask, generator=torch.Generator().manual_seed(seed))
        ours = sequence_log_prob(model, found, 5, attention_mask=mask, length_penalty=length_penalty)
        for row in range(3):
            tokens = found[row, row:].tolist()  # its own tokens, without padding
            n = 5 - row
            end = tokens.index(EOS, n) + 1 if EOS in tokens[n:] else len(tokens)
            with torch.no_grad():
                log_p = model(torch.tensor([tokens[:end]])).logits[0].log_softmax(-1)
            expected = sum(log_p[i - 1, tokens[i]] for i in range(n, end)) / (end - n) ** length_penalty
            torch.testing.assert_close(ours[row], expected, rtol=1e-9, atol=1e-9)


def test_sequence_log_prob_equals_the_scores_of_generate():
    model, (ids, mask) = tiny_gpt2(1), prompts(1, 3)
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=7,
        num_beams=3,
        num_return_sequences=2,
        do_sample=False,
        length_penalty=0.8,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ours = sequence_log_prob(model, out.sequences, 5, mask.repeat_interleave(2, dim=0), length_penalty=0.8)
    torch.testing.assert_close(ours, out.sequences_scores.double(), rtol=1e-5, atol=1e-5)


def test_sequence_log_prob_equals_the_models_own_loss(model):
    ids, _ = prompts(0, 2, padded=False)
    ours = sequence_log_prob(model, ids, length_penalty=1.0)
    torch.testing.assert_close(
        -ours.mean().float(), model(ids, labels=ids).loss, rtol=1e-5, atol=1e-5
    )  # the model's loss is in float32
    last = sequence_log_prob(model, ids) - sequence_log_prob(model, ids[:, :4])
    torch.testing.assert_close(sequence_log_prob(model, ids, 4), last, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_sequence_log_prob_does_not_see_padding_on_either_side(seed, left, right):
    model, (ids, _) = tiny_gpt2(seed % 5), prompts(seed % 1000, 2, padded=False)
    padded = nn.functional.pad(ids, (left, right), value=PAD)
    mask = nn.functional.pad(torch.ones_like(ids), (left, right))
    torch.testing.assert_close(
        sequence_log_prob(model, padded, left, mask, 1.0),
        sequence_log_prob(model, ids, 0, None, 1.0),
        rtol=1e-9,
        atol=1e-9,
    )


def test_sequence_log_prob_with_the_end_token_as_padding_and_as_first_token():
    """GPT-2 has one token for the end, the beginning and, by habit, the padding: padding on the left ended
    the row before it began.
    """
    model = bigrams()
    ids = torch.tensor([[EOS, 5, 6, 7, EOS, 8], [EOS, 6, 9, 4, 5, 6]])
    expected = sequence_log_prob(model, ids)
    log_p = model.table.log_softmax(-1)
    torch.testing.assert_close(expected[0], log_p[EOS, 5] + log_p[5, 6] + log_p[6, 7] + log_p[7, EOS])
    for left in (1, 3):
        padded, mask = (
            nn.functional.pad(ids, (left, 0), value=EOS),
            nn.functional.pad(torch.ones_like(ids), (left, 0)),
        )
        torch.testing.assert_close(sequence_log_prob(model, padded, attention_mask=mask), expected)


def test_sequence_log_prob_of_one_token_is_zero_and_an_empty_mask_means_no_prompt():
    assert sequence_log_prob(bigrams(), torch.tensor([[5], [6]])).tolist() == [0, 0]
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(
        sequence_log_prob(bigrams(), ids, 0, torch.ones(1, 0)), sequence_log_prob(bigrams(), ids)
    )


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)]
)
def test_sequence_log_prob_in_lower_precision(dtype, tolerance):
    ids, _ = prompts(0, 2, padded=False)
    ours = sequence_log_prob(tiny_gpt2(0).to(dtype), ids)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(
        ours.double(), sequence_log_prob(tiny_gpt2(0), ids), rtol=0, atol=tolerance * 5
    )


def test_sequence_log_prob_gradient():
    ids, mask = (
        torch.tensor([[4, 5, 6, 2, 3], [3, 7, 5, 6, 4]]),
        torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]),
    )
    table = bigrams(8).table.requires_grad_()
    assert gradcheck(lambda table: sequence_log_prob(Bigrams(table), ids, 1, mask, 0.7), table)


def test_sequence_log_prob_of_a_row_without_a_counted_token_is_zero():
    mask = torch.tensor([[1, 1, 1], [0, 0, 1]])
    assert sequence_log_prob(bigrams(), torch.full((2, 3), 5), 0, mask, 1.0)[1] == 0


def test_table_shows_the_most_probable_tokens_of_each_step():
    model = bigrams()
    table = next_token_table(model, torch.tensor([[5, 6]]), max_new_tokens=3, num_choices=2, eos_token_id=[])
    assert table.columns.tolist() == ["Input", "Choice 1", "Choice 2"] and len(table) == 3
    tokens = greedy_search(model, torch.tensor([[5, 6]]), 3, eos_token_id=[])[0].tolist()
    for step, row in table.iterrows():
        p = model.table[tokens[step + 1]].float().softmax(-1)
        top = p.topk(2)
        assert row["Input"] == " ".join(map(str, tokens[: step + 2]))
        assert [row["Choice 1"], row["Choice 2"]] == [
            f"{v} ({100 * q:.2f}%)" for v, q in zip(top.indices.tolist(), top.values.tolist())
        ]
        assert tokens[step + 2] == top.indices[0]


def test_table_speaks_the_tokenizers_language_and_ends_with_the_text():
    table = torch.full((12, 12), -5.0).scatter(1, ((torch.arange(12) - 1) % 12)[:, None], 9.0)
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(chr(97 + i) for i in ids))
    shown = next_token_table(
        Bigrams(table), torch.tensor([[PAD, 5]]), tokenizer, 9, 1, attention_mask=torch.tensor([[0, 1]])
    )
    assert shown["Input"].tolist() == ["f", "fe", "fed"] and [cell[0] for cell in shown["Choice 1"]] == [
        "e",
        "d",
        "c",
    ]


# ------------------------------------------------------------------------------------------------ defects of
# the circulating snippets


@pytest.fixture
def vocabulary(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"最美不过下雨天"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return tmp_path


def test_a_bert_tokenizer_closes_the_prompt_with_sep_and_we_say_so(vocabulary):
    tokenizer, model = transformers.BertTokenizer.from_pretrained(str(vocabulary)), bigrams(eos=3)
    closed = torch.tensor([tokenizer("最美不过下雨天").input_ids])
    open_ended = torch.tensor([tokenizer("最美不过下雨天", add_special_tokens=False).input_ids])
    assert closed[0, -1] == tokenizer.sep_token_id == 3 and open_ended.tolist() == [list(range(5, 12))]
    with pytest.warns(
        UserWarning, match="^input_ids: a prompt closes with an end token, .*add_special_tokens=False"
    ):
        greedy_search(model, closed, 3)
    greedy_search(model, open_ended, 3)  # no warning


@pytest.mark.skipif(VERSION < (5, 0), reason="transformers 4 reads vocab_file")
def test_bert_tokenizer_with_vocab_file_silently_knows_no_character(vocabulary):
    silent = transformers.BertTokenizer(vocab_file=str(vocabulary / "vocab.txt"))
    assert set(silent("最美不过下雨天", add_special_tokens=False).input_ids) == {silent.unk_token_id}
    words = {
        word: i for i, word in enumerate((vocabulary / "vocab.txt").read_text(encoding="utf-8").split("\n"))
    }
    for works in (
        transformers.BertTokenizer.from_pretrained(str(vocabulary)),
        transformers.BertTokenizer(vocab=words),
    ):
        assert works("最美不过下雨天", add_special_tokens=False).input_ids == list(range(5, 12))


def test_token_type_ids_of_a_bert_tokenizer_are_refused_not_added_to_the_embeddings(model):
    ids, _ = prompts(0, 1, padded=False)
    with pytest.raises(TypeError, match="^token_type_ids: "):
        greedy_search(model, ids, 3, token_type_ids=torch.zeros_like(ids))


# ------------------------------------------------------------------------------------------------ bad input


IDS = torch.tensor([[4, 5, 6], [7, 8, 9]])
ONES, ROW = torch.ones_like(IDS), torch.zeros(2, 12)


def greedy(**changes):
    return lambda: greedy_search(
        **{"model": bigrams(max_position_embeddings=20), "input_ids": IDS, "max_new_tokens": 3} | changes
    )


def beams(**changes):
    return lambda: beam_search(
        **{"model": bigrams(), "input_ids": IDS, "max_new_tokens": 3, "num_beams": 2} | changes
    )


def groups(**changes):
    return lambda: diverse_beam_search(
        **{"model": bigrams(), "input_ids": IDS, "max_new_tokens": 3} | changes
    )


def draws(**changes):
    return lambda: sample(bigrams(), IDS, 3, **changes)


def contrast(**changes):
    return lambda: contrastive_search(bigrams(), IDS, 3, **changes)


def scored(**changes):
    return lambda: sequence_log_prob(**{"model": bigrams(), "sequences": IDS, "prompt_length": 1} | changes)


def shown(**changes):
    return lambda: next_token_table(**{"model": bigrams(), "input_ids": IDS[:1]} | changes)


class Encoder(nn.Module):
    config, get_input_embeddings = SimpleNamespace(is_encoder_decoder=False), bigrams().get_input_embeddings
    generation_config = None

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 4))


class EncoderDecoder(Encoder):
    config = SimpleNamespace(is_encoder_decoder=True)


class Elsewhere(torch.Generator):
    device = torch.device("meta")


class Renamed(Bigrams):
    """A cache by the name that transformers has from 5.24 on."""

    def forward(self, input_ids, attention_mask=None, cache=None, use_cache=True, output_hidden_states=False):
        out = super().forward(input_ids)
        return SimpleNamespace(logits=out.logits, cache=out.past_key_values, hidden_states=out.hidden_states)


def test_a_plain_module_may_call_its_cache_by_either_name():
    renamed, model = Renamed(bigrams().table), bigrams()
    for mode in (greedy_search, functools.partial(beam_search, num_beams=3)):
        assert torch.equal(mode(renamed, IDS, 6), mode(model, IDS, 6))
    assert renamed.columns_seen == model.columns_seen and renamed.columns_seen[1] == 1


@pytest.mark.parametrize(
    "mode", [functools.partial(beam_search, num_beams=2), functools.partial(contrastive_search, top_k=2)]
)
def test_a_cache_of_an_unknown_name_is_refused_and_never_left_in_the_wrong_order(mode, monkeypatch):
    monkeypatch.setattr("tricks_lib.decoding.feed.CACHES", ("unheard_of",))
    with pytest.raises(TypeError, match="^model: GPT2LMHeadModel given, whose cache is none of its inputs"):
        mode(tiny_gpt2(0), prompts(0, 2, padded=False)[0], 6)


FULL_CACHE = SimpleNamespace(get_seq_length=lambda: 3)
BAD_INPUT = {
    "model: a name": (greedy(model="gpt2"), TypeError, "model"),
    "model: no language model": (greedy(model=nn.Linear(2, 2)), TypeError, "model"),
    "model: an encoder": (greedy(model=Encoder().eval()), TypeError, "model"),
    "model: encoder and decoder": (greedy(model=EncoderDecoder()), TypeError, "model"),
    "model: in training mode": (greedy(model=bigrams().train()), ValueError, "model"),
    "model: gives NaN": (greedy(model=Bigrams(torch.full((12, 12), math.nan))), ValueError, "model"),
    "beam, model: gives NaN": (beams(model=Bigrams(torch.full((12, 12), math.nan))), ValueError, "model"),
    "input_ids: a list": (greedy(input_ids=[[4, 5]]), TypeError, "input_ids"),
    "input_ids: floating": (greedy(input_ids=IDS.float()), TypeError, "input_ids"),
    "input_ids: bool": (greedy(input_ids=IDS > 5), ValueError, "input_ids"),
    "input_ids: one dimension": (greedy(input_ids=IDS[0]), ValueError, "input_ids"),
    "input_ids: three dimensions": (greedy(input_ids=IDS[None]), ValueError, "input_ids"),
    "input_ids: empty batch": (greedy(input_ids=IDS[:0]), ValueError, "input_ids"),
    "input_ids: empty prompt": (greedy(input_ids=IDS[:, :0]), ValueError, "input_ids"),
    "input_ids: beyond the vocabulary": (greedy(input_ids=IDS + 3), ValueError, "input_ids"),
    "input_ids: negative": (greedy(input_ids=IDS - 5), ValueError, "input_ids"),
    "input_ids: other device": (greedy(input_ids=IDS.to("meta")), ValueError, "input_ids"),
    "max_new_tokens: missing": (greedy(max_new_tokens=None), TypeError, "max_new_tokens"),
    "max_new_tokens: zero": (greedy(max_new_tokens=0), ValueError, "max_new_tokens"),
    "max_new_tokens: a float": (greedy(max_new_tokens=3.0), TypeError, "max_new_tokens"),
    "max_new_tokens: a bool": (greedy(max_new_tokens=True), TypeError, "max_new_tokens"),
    "max_new_tokens: more than positions": (greedy(max_new_tokens=19), ValueError, "max_new_tokens"),
    "attention_mask: a list": (greedy(attention_mask=[[1, 1, 1]] * 2), TypeError, "attention_mask"),
    "attention_mask: shape": (greedy(attention_mask=ONES[:, :2]), ValueError, "attention_mask"),
    "attention_mask: other values": (greedy(attention_mask=2 * ONES), ValueError, "attention_mask"),
    "attention_mask: NaN": (greedy(attention_mask=ONES * math.nan), ValueError, "attention_mask"),
    "attention_mask: padding on the right": (
        greedy(attention_mask=torch.tensor([[1, 1, 1], [1, 1, 0]])),
        ValueError,
        "attention_mask",
    ),
    "attention_mask: other device": (greedy(attention_mask=ONES.to("meta")), ValueError, "attention_mask"),
    "eos_token_id: beyond the vocabulary": (greedy(eos_token_id=12), ValueError, "eos_token_id"),
    "eos_token_id: a string": (greedy(eos_token_id="</s>"), TypeError, "eos_token_id"),
    "eos_token_id: negative in a list": (greedy(eos_token_id=[2, -1]), ValueError, "eos_token_id"),
    "pad_token_id: beyond the vocabulary": (greedy(pad_token_id=50256), ValueError, "pad_token_id"),
    "pad_token_id: a float": (greedy(pad_token_id=0.0), TypeError, "pad_token_id"),
    "no_repeat_ngram_size: negative": (greedy(no_repeat_ngram_size=-1), ValueError, "no_repeat_ngram_size"),
    "on_token: not callable": (greedy(on_token=[]), TypeError, "on_token"),
    "logits_processor: not callable": (greedy(logits_processor=0.5), TypeError, "logits_processor"),
    "stopping_criteria: not callable": (greedy(stopping_criteria=["."]), TypeError, "stopping_criteria"),
    "logits_processor: returns nothing": (
        greedy(logits_processor=lambda ids, scores: None),
        ValueError,
        "logits_processor",
    ),
    "logits_processor: returns another shape": (
        greedy(logits_processor=lambda ids, scores: scores[:1]),
        ValueError,
        "logits_processor",
    ),
    "generation_config: a dictionary": (
        greedy(generation_config={"eos_token_id": 5}),
        TypeError,
        "generation_config",
    ),
    "streamer: dropped without a word": (greedy(streamer=SimpleNamespace()), ValueError, "streamer"),
    "synced_gpus": (greedy(synced_gpus=True), ValueError, "synced_gpus"),
    "past_key_values: filled": (greedy(past_key_values=FULL_CACHE), ValueError, "past_key_values"),
    "an option that no mode has": (greedy(num_beam=3), TypeError, "num_beam"),
    "temperature: zero": (draws(temperature=0), ValueError, "temperature"),
    "temperature: negative": (draws(temperature=-1.0), ValueError, "temperature"),
    "temperature: NaN": (draws(temperature=math.nan), ValueError, "temperature"),
    "temperature: infinity": (draws(temperature=math.inf), ValueError, "temperature"),
    "temperature: divides into infinity": (draws(temperature=1e-40), ValueError, "temperature"),
    "temperature: infinite in float32": (draws(temperature=1e300), ValueError, "temperature"),
    "sample: every token blocked": (
        draws(logits_processor=lambda ids, scores: scores - math.inf, min_p=0.1),
        ValueError,
        "logits",
    ),
    "temperature: a string": (draws(temperature="hot"), TypeError, "temperature"),
    "top_k: zero": (draws(top_k=0), ValueError, "top_k"),
    "top_k: a float": (draws(top_k=5.0), TypeError, "top_k"),
    "top_p: above 1": (draws(top_p=1.1), ValueError, "top_p"),
    "top_p: negative": (draws(top_p=-0.1), ValueError, "top_p"),
    "top_p: NaN": (draws(top_p=math.nan), ValueError, "top_p"),
    "min_p: above 1": (draws(min_p=2), ValueError, "min_p"),
    "min_p: a bool": (draws(min_p=True), TypeError, "min_p"),
    "typical_p: zero": (draws(typical_p=0.0), ValueError, "typical_p"),
    "eta_cutoff: one": (draws(eta_cutoff=1.0), ValueError, "eta_cutoff"),
    "eta_cutoff: zero": (draws(eta_cutoff=0), ValueError, "eta_cutoff"),
    "top_h: zero": (draws(top_h=0), ValueError, "top_h"),
    "top_h: above 1": (draws(top_h=1.5), ValueError, "top_h"),
    "top_n_sigma: negative": (draws(top_n_sigma=-1.0), ValueError, "top_n_sigma"),
    "top_n_sigma: NaN": (draws(top_n_sigma=math.nan), ValueError, "top_n_sigma"),
    "top_n_sigma: a string": (draws(top_n_sigma="1"), TypeError, "top_n_sigma"),
    "repetition_penalty: zero": (greedy(repetition_penalty=0.0), ValueError, "repetition_penalty"),
    "repetition_penalty: a string": (greedy(repetition_penalty="1"), TypeError, "repetition_penalty"),
    "min_new_tokens: negative": (greedy(min_new_tokens=-1), ValueError, "min_new_tokens"),
    "min_new_tokens: a float": (greedy(min_new_tokens=2.0), TypeError, "min_new_tokens"),
    "generator: a seed": (draws(generator=42), TypeError, "generator"),
    "generator: other device": (draws(generator=Elsewhere()), ValueError, "generator"),
    "num_beams: zero": (beams(num_beams=0), ValueError, "num_beams"),
    "num_beams: a float": (beams(num_beams=2.0), TypeError, "num_beams"),
    "num_return_sequences: more than beams": (
        beams(num_return_sequences=3),
        ValueError,
        "num_return_sequences",
    ),
    "num_return_sequences: zero": (beams(num_return_sequences=0), ValueError, "num_return_sequences"),
    "length_penalty: a string": (beams(length_penalty="long"), TypeError, "length_penalty"),
    "length_penalty: NaN": (beams(length_penalty=math.nan), ValueError, "length_penalty"),
    "length_penalty: infinity": (beams(length_penalty=math.inf), ValueError, "length_penalty"),
    "length_penalty: minus infinity": (beams(length_penalty=-math.inf), ValueError, "length_penalty"),
    "length_penalty: overflows": (beams(length_penalty=2000.0), ValueError, "length_penalty"),
    "length_penalty: divides by zero": (beams(length_penalty=-2000.0), ValueError, "length_penalty"),
    "early_stopping: one": (beams(early_stopping=1), ValueError, "early_stopping"),
    "early_stopping: another word": (beams(early_stopping="always"), ValueError, "early_stopping"),
    "stopping_criteria: with beams": (
        beams(stopping_criteria=lambda ids, scores: None),
        ValueError,
        "stopping_criteria",
    ),
    "on_token: with beams": (beams(on_token=print), ValueError, "on_token"),
    "num_beam_groups: no divisor": (groups(num_beams=4, num_beam_groups=3), ValueError, "num_beam_groups"),
    "num_beam_groups: zero": (groups(num_beam_groups=0), ValueError, "num_beam_groups"),
    "diversity_penalty: negative": (groups(diversity_penalty=-1.0), ValueError, "diversity_penalty"),
    "diversity_penalty: infinity": (groups(diversity_penalty=math.inf), ValueError, "diversity_penalty"),
    "diversity_penalty: NaN": (groups(diversity_penalty=math.nan), ValueError, "diversity_penalty"),
    "groups model: None": (groups(model=None), TypeError, "model"),
    "groups input_ids: other device": (groups(input_ids=IDS.to("meta")), ValueError, "input_ids"),
    "groups num_return_sequences: more than beams": (
        groups(num_return_sequences=5),
        ValueError,
        "num_return_sequences",
    ),
    "penalty_alpha: above 1": (contrast(penalty_alpha=1.2), ValueError, "penalty_alpha"),
    "penalty_alpha: a string": (contrast(penalty_alpha="0.6"), TypeError, "penalty_alpha"),
    "contrastive top_k: zero": (contrast(top_k=0), ValueError, "top_k"),
    "penalty_alpha: NaN": (contrast(penalty_alpha=math.nan), ValueError, "penalty_alpha"),
    "contrastive attention_mask: other device": (
        contrast(attention_mask=ONES.to("meta")),
        ValueError,
        "attention_mask",
    ),
    "sequences: floating": (scored(sequences=IDS.double()), TypeError, "sequences"),
    "sequences: beyond the vocabulary": (scored(sequences=IDS + 12), ValueError, "sequences"),
    "sequences: one dimension": (scored(sequences=IDS[0]), ValueError, "sequences"),
    "prompt_length: all of it": (scored(prompt_length=3), ValueError, "prompt_length"),
    "prompt_length: negative": (scored(prompt_length=-1), ValueError, "prompt_length"),
    "scored attention_mask: shape": (scored(attention_mask=ONES[:, :2]), ValueError, "attention_mask"),
    "scored length_penalty: None": (scored(length_penalty=None), TypeError, "length_penalty"),
    "scored length_penalty: infinity": (scored(length_penalty=math.inf), ValueError, "length_penalty"),
    "scored eos_token_id: negative": (scored(eos_token_id=-1), ValueError, "eos_token_id"),
    "scored attention_mask: other device": (
        scored(attention_mask=ONES.to("meta")),
        ValueError,
        "attention_mask",
    ),
    "scored attention_mask: NaN": (scored(attention_mask=ONES * math.nan), ValueError, "attention_mask"),
    "sequences: other device": (scored(sequences=IDS.to("meta")), ValueError, "sequences"),
    "sequences: empty batch": (scored(sequences=IDS[:0]), ValueError, "sequences"),
    "sequences: more than positions": (
        scored(model=bigrams(max_position_embeddings=1)),
        ValueError,
        "sequences",
    ),
    "scored model: None": (scored(model=None), TypeError, "model"),
    "table input_ids: two prompts": (shown(input_ids=IDS), ValueError, "input_ids"),
    "num_choices: zero": (shown(num_choices=0), ValueError, "num_choices"),
    "num_choices: a float": (shown(num_choices=2.0), TypeError, "num_choices"),
    "table max_new_tokens: zero": (shown(max_new_tokens=0), ValueError, "max_new_tokens"),
    "table attention_mask: shape": (shown(attention_mask=ONES), ValueError, "attention_mask"),
    "tokenizer: a name": (shown(tokenizer="gpt2"), TypeError, "tokenizer"),
    "logits: a list": (lambda: top_k_filter([1.0], 1), TypeError, "logits"),
    "logits: integers": (lambda: top_p_filter(IDS, 0.5), TypeError, "logits"),
    "logits: empty": (lambda: min_p_filter(torch.zeros(2, 0), 0.5), ValueError, "logits"),
    "logits: a scalar": (lambda: typical_filter(torch.tensor(1.0), 0.5), ValueError, "logits"),
    "ngram_size: zero": (lambda: block_repeated_ngrams(ROW, IDS, 0), ValueError, "ngram_size"),
    "ngram input_ids: rows": (lambda: block_repeated_ngrams(ROW, IDS[:1], 2), ValueError, "input_ids"),
    "ngram input_ids: floating": (lambda: block_repeated_ngrams(ROW, IDS.float(), 2), TypeError, "input_ids"),
    "ngram input_ids: other device": (
        lambda: block_repeated_ngrams(ROW, IDS.to("meta"), 2),
        ValueError,
        "input_ids",
    ),
    "ngram input_ids: beyond the vocabulary": (
        lambda: block_repeated_ngrams(ROW, IDS + 5, 2),
        ValueError,
        "input_ids",
    ),
    "ngram logits: one row": (lambda: block_repeated_ngrams(ROW[0], IDS, 2), ValueError, "logits"),
    "ngram logits: integers": (lambda: block_repeated_ngrams(ROW.long(), IDS, 2), TypeError, "logits"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    call, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        call()
