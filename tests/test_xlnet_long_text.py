"""Oracles: transformers' XLNetModel and BertModel on one document at a time, without padding, then NumPy in
float64.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetForSequenceClassification,
    XLNetModel,
)

from tricks_lib.xlnet_long_text import (
    SlidingWindowClassifier,
    XLNetLongClassifier,
    freeze_all_but_last,
    split_into_segments,
    truncate_head_tail,
)

V, H = 20, 8
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
SIDES = pytest.mark.parametrize("side", ["right", "left", "both"])


def xlnet(n_layer=2, **config):
    torch.manual_seed(0)
    return XLNetModel(
        XLNetConfig(
            vocab_size=V, d_model=H, n_layer=n_layer, n_head=2, d_inner=8, initializer_range=0.5, **config
        )
    ).eval()


def bert(**config):
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=0.5,
    )
    return BertModel(BertConfig(**sizes | dict(max_position_embeddings=16) | config)).eval()


def documents(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(1, V, size=n)) for n in lengths]


def padded(docs, side="right", extra=2, fill=0):
    T = max(map(len, docs)) + extra
    ids, mask = torch.full((len(docs), T), fill), torch.zeros(len(docs), T, dtype=torch.long)
    for i, doc in enumerate(docs):
        start = {"right": 0, "left": T - len(doc), "both": (T - len(doc)) // 2}[side]
        ids[i, start : start + len(doc)], mask[i, start : start + len(doc)] = doc, 1
    return ids, mask


def head(model, vectors):
    """The linear layer, in NumPy and float64."""
    weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    return np.stack(vectors) @ weight.T + bias


def states_with_memory(encoder, doc, L, M, types=None):
    """All last hidden states (n, H) of one document: segments of L tokens, memory of M, by transformers
    alone.
    """
    mems, states = None, []
    for start in range(0, len(doc), L):
        inputs = {} if types is None else {"token_type_ids": types[None, start : start + L]}
        out = encoder(doc[None, start : start + L], mems=mems, use_mems=M > 0, **inputs)
        mems = [m[-M:] for m in out.mems] if M else None
        states.append(out.last_hidden_state[0])
    return torch.cat(states).detach().double().numpy()


# ---------------------------------------------------------------- splitting and truncating


@settings(max_examples=60, deadline=None)
@given(T=st.integers(1, 40), L=st.integers(1, 45), B=st.integers(1, 3))
def test_segments_put_together_are_the_document(T, L, B):
    ids, mask = torch.arange(B * T).view(B, T), (torch.arange(T) < 3).long().expand(B, T)
    segments = split_into_segments(ids, L)
    assert isinstance(segments, list) and torch.equal(torch.cat(segments, dim=1), ids)
    assert all(s.shape == (B, L) for s in segments[:-1]) and 1 <= segments[-1].shape[1] <= L
    pairs = split_into_segments(ids, L, mask)
    assert [torch.equal(a, b) for (a, _), b in zip(pairs, segments)] == [True] * math.ceil(T / L)
    assert torch.equal(torch.cat([m for _, m in pairs], dim=1), mask)


def test_segments_are_views():
    ids = torch.arange(6).view(1, 6)
    assert split_into_segments(ids, 4)[0].data_ptr() == ids.data_ptr()


@SIDES
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    length=st.integers(1, 20),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_head_and_tail_equal_slicing_each_document_alone(side, lengths, length, share, seed):
    docs, head_length = documents(lengths, seed), round(share * length)
    ids, mask = truncate_head_tail(*padded(docs, side)[:1], length, padded(docs, side)[1], head_length)
    assert ids.shape == mask.shape and ids.shape[1] <= length
    for row, keep, doc in zip(ids, mask, docs):
        expected = (
            doc
            if len(doc) <= length
            else torch.cat([doc[:head_length], doc[len(doc) - (length - head_length) :]])
        )
        assert torch.equal(row[keep.bool()], expected)
        assert keep.tolist() == sorted(keep.tolist(), reverse=True), "padding stands at the end"


def test_head_is_a_quarter_by_default_and_no_mask_gives_no_mask():
    assert truncate_head_tail(torch.arange(100).view(1, 100), 8).tolist() == [[0, 1, 94, 95, 96, 97, 98, 99]]
    assert truncate_head_tail(torch.arange(3).view(1, 3), 8).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("function", [split_into_segments, truncate_head_tail], ids=lambda f: f.__name__)
def test_compiles_as_one_graph(function):
    ids, mask = padded(documents([9, 4]))
    compiled = torch.compile(lambda i, m: function(i, 4, m), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids, mask), function(ids, 4, mask))


# ---------------------------------------------------------------- XLNet with memory


@DTYPES
@SIDES
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("M", [0, 3, 4, 9])
def test_xlnet_equals_each_document_alone(dtype, side, pool, M):
    """Guards against padding that wins the maximum, padding kept in memory, and a memory of the wrong
    length.
    """
    encoder = xlnet().to(dtype)
    model = XLNetLongClassifier(encoder, 3, segment_length=4, mem_len=M, pool=pool).to(dtype).eval()
    docs = documents([11, 1, 4, 6, 17])
    logits = model(*padded(docs, side)).logits
    vectors = [getattr(states_with_memory(encoder, doc, 4, M), pool)(axis=0) for doc in docs]
    np.testing.assert_allclose(
        logits.detach().double().numpy(), head(model, vectors), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


def test_a_document_of_one_segment_is_xlnet_itself():
    encoder = xlnet()
    model = XLNetLongClassifier(encoder, 2, segment_length=12).eval()
    [doc] = documents([12])
    expected = encoder(doc[None]).last_hidden_state[0].mean(0).detach().double().numpy()
    np.testing.assert_allclose(
        model(doc[None]).logits.detach().numpy(), head(model, [expected]), rtol=1e-5, atol=1e-6
    )


def test_memory_is_seen_by_later_segments_only():
    encoder = xlnet()
    first, second = documents([8]), documents([8], seed=1)
    changed = torch.cat([second[0][:4], first[0][4:]])  # another first segment
    with_memory, without = (
        XLNetLongClassifier(encoder, 2, segment_length=4, mem_len=M, dropout=0.0).eval() for M in (4, 0)
    )
    states = {M: [states_with_memory(encoder, d, 4, M)[4:] for d in (first[0], changed)] for M in (4, 0)}
    assert np.abs(states[4][0] - states[4][1]).max() > 1e-3 and np.array_equal(*states[0])
    assert not torch.allclose(with_memory(first[0][None]).logits, without(first[0][None]).logits)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    fill=st.integers(0, V - 1),
    side=st.sampled_from(["left", "right", "both"]),
    L=st.integers(1, 6),
    seed=st.integers(0, 99),
    model=st.sampled_from(["mean", "max", "sliding", "attention"]),
)
def test_logits_depend_neither_on_padding_nor_on_the_rest_of_the_batch_nor_on_its_order(
    lengths, extra, fill, side, L, seed, model
):
    if model in ("mean", "max"):
        model = XLNetLongClassifier(xlnet(1), 2, segment_length=L, pool=model).eval()
    else:
        model = SlidingWindowClassifier(
            bert(num_hidden_layers=1), 2, L, pool=model.replace("sliding", "mean"), windows_at_once=3
        ).eval()
    docs = documents(lengths, seed)
    alone = torch.cat([model(doc[None]).logits for doc in docs])
    torch.testing.assert_close(model(*padded(docs, side, extra, fill)).logits, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model(*padded(docs[::-1], side, extra, fill)).logits, alone.flip(0), rtol=1e-4, atol=1e-5
    )


def test_what_transformers_alone_does_with_padding_in_the_memory():
    """The defect itself: a left-padded document cut as it stands; the second segment sees the first one's
    padding.
    """
    encoder = xlnet()
    [doc] = documents([6])
    ids, mask = padded(
        [doc], "left", extra=2, fill=5
    )  # segments of four: two of padding and two tokens, four tokens
    out = encoder(ids[:, :4], attention_mask=mask[:, :4], use_mems=True)
    naive = encoder(ids[:, 4:], attention_mask=mask[:, 4:], mems=out.mems).last_hidden_state
    clean = encoder(doc[None, 2:], mems=encoder(doc[None, :2], use_mems=True).mems).last_hidden_state
    assert (naive - clean).abs().max() > 1e-3
    model = XLNetLongClassifier(encoder, 2, segment_length=4).eval()
    torch.testing.assert_close(model(ids, mask).logits, model(doc[None]).logits, rtol=1e-5, atol=1e-6)


def test_right_padding_changes_transformers_logits_and_not_ours():
    """XLNetForSequenceClassification reads the last position, padding or not."""
    encoder = xlnet()
    theirs = XLNetForSequenceClassification(encoder.config).eval()
    ours = XLNetLongClassifier(encoder, 2).eval()
    [doc] = documents([5])
    ids, mask = padded([doc], "right", extra=3, fill=5)
    assert (theirs(ids, attention_mask=mask).logits - theirs(doc[None]).logits).abs().max() > 1e-3
    torch.testing.assert_close(ours(ids, mask).logits, ours(doc[None]).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32, torch.float64], ids=str)
def test_a_bool_mask_crashes_xlnet_and_not_ours(dtype):
    encoder = xlnet()
    model = XLNetLongClassifier(encoder, 2, segment_length=4).eval()
    ids, mask = padded(documents([9, 3]))
    if dtype == torch.bool:
        with pytest.raises(RuntimeError):
            encoder(ids, attention_mask=mask.bool())
    torch.testing.assert_close(model(ids, mask.to(dtype)).logits, model(ids, mask).logits)


def test_batches_of_different_size_follow_each_other():
    """Memory lives for one call: transformers raises when a kept memory meets another batch size."""
    model = XLNetLongClassifier(xlnet(), 2, segment_length=4).eval()
    docs = documents([9, 3, 7])
    expected = model(*padded(docs)).logits
    model(*padded(docs[:1]))
    torch.testing.assert_close(model(*padded(docs)).logits, expected)


def test_padding_does_not_win_the_maximum():
    """The snippet takes the maximum over all positions: here every token's states are negative, and padding's
    are not.
    """
    encoder = xlnet()
    encoder.layer[-1].ff.layer_norm.weight.data.fill_(0.01)
    encoder.layer[-1].ff.layer_norm.bias.data.fill_(-5.0)
    model = XLNetLongClassifier(encoder, 2, segment_length=4, pool="max").eval()
    model.classifier.weight.data.fill_(1.0)
    docs = documents([9, 2])
    assert (model(*padded(docs)).logits < -4 * H).all(), (
        "a zero of the padding, or of a segment the document does not have, got into the maximum"
    )


def test_multi_label_by_logits_without_a_sigmoid_in_forward():
    """The snippet's forward ends in a sigmoid and its loss takes logits: applied twice."""
    model = XLNetLongClassifier(xlnet(), 3, segment_length=4).eval()
    model.classifier.bias.data.copy_(torch.tensor([30.0, -30.0, 0.0]))
    ids, mask = padded(documents([9, 3]))
    labels = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    out = model(ids, mask, labels)
    assert out.logits.max() > 1 and out.logits.min() < 0
    torch.testing.assert_close(out.loss, nn.functional.binary_cross_entropy_with_logits(out.logits, labels))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (xlnet(), XLNetLongClassifier, "segment_length"),
        lambda: (bert(), SlidingWindowClassifier, "window_length"),
    ],
    ids=["xlnet", "sliding"],
)
def test_token_types_are_cut_with_the_ids(make):
    encoder, classifier, length = make()
    model = classifier(encoder, 2, **{length: 4}).eval()
    [doc], types = documents([4]), torch.tensor([0, 0, 1, 1])
    expected = (
        encoder(doc[None], token_type_ids=types[None]).last_hidden_state[0].mean(0).detach().double().numpy()
    )
    ids, mask = padded([doc], "left", extra=3)
    got = model(ids, mask, token_type_ids=torch.cat([torch.ones(3, dtype=torch.long), types])[None]).logits
    np.testing.assert_allclose(got.detach().numpy(), head(model, [expected]), rtol=1e-5, atol=1e-5)
    longer = torch.cat([doc, doc, doc])[None]
    assert not torch.allclose(
        model(longer, token_type_ids=types.repeat(3)[None]).logits, model(longer).logits
    )


def test_xlnet_token_types_equal_each_document_alone():
    encoder = xlnet()
    model = XLNetLongClassifier(encoder, 2, segment_length=4).eval()
    [doc], types = documents([10]), torch.tensor([0] * 9 + [2])
    got = model(doc[None], token_type_ids=types[None]).logits.detach().numpy()
    np.testing.assert_allclose(
        got, head(model, [states_with_memory(encoder, doc, 4, 4, types).mean(0)]), rtol=1e-5, atol=1e-5
    )


def test_no_gradient_crosses_segments():
    """The limit that the docstring states: tokens of the first segment get no gradient from the second one's
    states.
    """
    encoder = xlnet()
    ids = torch.arange(1, 9)[None]
    model = XLNetLongClassifier(encoder, 2, segment_length=4, dropout=0.0).eval()
    vectors = []
    encoder.register_forward_hook(lambda module, args, out: vectors.append(out.last_hidden_state))
    model(ids)
    vectors[1].sum().backward()
    moved = encoder.word_embedding.weight.grad.abs().sum(1) > 0
    assert moved[5:9].all() and not moved[1:5].any()


def test_training_mode_uses_the_memory_too():
    """transformers switches it off in training (``use_mems_train=False``) unless it is asked for."""
    encoder = xlnet(dropout=0.0)
    model = XLNetLongClassifier(encoder, 2, segment_length=4, dropout=0.0)
    ids = documents([10])[0][None]
    torch.testing.assert_close(model.train()(ids).logits, model.eval()(ids).logits)
    model.train()(ids, labels=torch.tensor([1])).loss.backward()
    # mask_emb and seg_embed take part in pretraining and with token types only
    unused = ("mask_emb", "seg_embed", "r_s_bias")
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all()
        for n, p in model.named_parameters()
        if not n.endswith(unused)
    )


def test_mem_len_defaults_to_the_segment_and_to_no_more_than_the_encoder_keeps():
    assert XLNetLongClassifier(xlnet(), 2, segment_length=7).mem_len == 7
    assert XLNetLongClassifier(xlnet(mem_len=5), 2, segment_length=7).mem_len == 5
    assert XLNetLongClassifier(xlnet(mem_len=None), 2, segment_length=7).mem_len == 7


def test_memory_is_cut_also_where_the_encoder_keeps_everything():
    """mem_len None or 0 makes transformers keep the whole past: memory would grow with the document."""
    encoder, seen = xlnet(mem_len=None), []
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["mems"][0]) if kwargs["mems"] else 0),
        with_kwargs=True,
    )
    XLNetLongClassifier(encoder, 2, segment_length=4, mem_len=6).eval()(documents([18])[0][None])
    assert seen == [0, 4, 6, 6, 6]


def test_only_documents_that_reach_a_segment_are_encoded():
    encoder, seen = xlnet(), []
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(args[0].shape)), with_kwargs=True
    )
    XLNetLongClassifier(encoder, 2, segment_length=4).eval()(*padded(documents([3, 10, 5]), "left", extra=20))
    assert seen == [(3, 4), (2, 4), (1, 2)]


# ---------------------------------------------------------------- sliding windows


def window_vectors(encoder, doc, W, stride):
    """Window vectors (S, H) of one document: slide until the end is reached."""
    W, start, vectors = min(W, len(doc)), 0, []
    while True:
        vectors.append(encoder(doc[None, start : start + W]).last_hidden_state[0].mean(0))
        if start + W >= len(doc):
            return torch.stack(vectors).detach().double().numpy()
        start += stride


def attend(model, vectors):
    """Yang et al. 2016, equations 8 to 10, in NumPy."""
    inner, _, query = (model.attention[0], None, model.attention[2])
    W, b, q = (p.detach().double().numpy() for p in (inner.weight, inner.bias, query.weight))
    score = np.tanh(vectors @ W.T + b) @ q[0]
    a = np.exp(score) / np.exp(score).sum()
    return a @ vectors


@DTYPES
@SIDES
@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
@pytest.mark.parametrize("W, stride", [(4, 2), (5, 5), (6, 1), (16, 8)])
def test_sliding_windows_equal_each_document_alone(dtype, side, pool, W, stride):
    encoder = bert().to(dtype)
    model = SlidingWindowClassifier(encoder, 3, W, stride, pool, windows_at_once=5).to(dtype).eval()
    docs = documents([11, 1, 4, 6, 19, 12])
    logits = model(*padded(docs, side)).logits.detach().double().numpy()
    pools = {"mean": lambda v: v.mean(0), "max": lambda v: v.max(0), "attention": lambda v: attend(model, v)}
    vectors = [pools[pool](window_vectors(encoder, doc, W, stride)) for doc in docs]
    np.testing.assert_allclose(logits, head(model, vectors), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 60), W=st.integers(1, 12), stride=st.integers(1, 12))
def test_windows_cover_every_token_and_none_is_superfluous(n, W, stride):
    stride, seen = min(stride, W), []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = type("Config", (), {"hidden_size": 1})()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, input_ids, attention_mask):
            from transformers.modeling_outputs import BaseModelOutput

            seen.extend(set(ids[keep.bool()].tolist()) for ids, keep in zip(input_ids, attention_mask))
            return BaseModelOutput(last_hidden_state=torch.zeros(*input_ids.shape, 1))

    SlidingWindowClassifier(Spy(), 1, W, stride)(torch.arange(n)[None])
    assert set().union(*seen) == set(range(n))
    assert all(seen[i] - set().union(*seen[:i]) for i in range(len(seen))), "a window holds nothing new"


def test_a_short_documents_windows_do_not_depend_on_a_long_neighbour():
    """Cut by the batch's length, a document of ten tokens has a third window of tokens that it has already
    read.
    """
    encoder = bert()
    model = SlidingWindowClassifier(encoder, 2, 8, 4).eval()
    docs = documents([10, 20])
    torch.testing.assert_close(
        model(*padded(docs)).logits[:1], model(docs[0][None]).logits, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "encoder",
    [
        xlnet,
        lambda: GPT2Model(
            GPT2Config(
                vocab_size=V, n_embd=H, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1
            )
        ),
    ],
)
def test_any_encoder_fits(encoder):
    model = SlidingWindowClassifier(encoder(), 2).eval()
    assert model(*padded(documents([40, 3]))).logits.shape == (2, 2)


def test_window_defaults_come_from_the_encoder():
    assert (SlidingWindowClassifier(bert(), 2).window_length, SlidingWindowClassifier(bert(), 2).stride) == (
        16,
        8,
    )
    assert SlidingWindowClassifier(bert(max_position_embeddings=1024), 2).window_length == 512
    assert SlidingWindowClassifier(xlnet(), 2).window_length == 512  # XLNet says -1: no limit
    assert SlidingWindowClassifier(bert(), 2, 1).stride == 1


def test_roberta_has_fewer_positions_than_its_config_says():
    """Its positions count from padding_idx + 1: a window of max_position_embeddings runs off the table."""
    sizes = dict(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        pad_token_id=1,
    )
    encoder = RobertaModel(RobertaConfig(**sizes, max_position_embeddings=18)).eval()
    model = SlidingWindowClassifier(encoder, 2).eval()
    assert (model.window_length, model.stride) == (16, 8)
    ids = torch.full((1, 40), 5)
    assert torch.isfinite(model(ids).logits).all()
    with pytest.raises((IndexError, RuntimeError)):
        encoder(ids[:, :17])
    with pytest.raises(
        ValueError,
        match="^window_length: 17 given, an integer from 1 to the encoder's 16 positions is accepted",
    ):
        SlidingWindowClassifier(encoder, 2, 17)


def test_gradient_reaches_encoder_and_attention():
    model = SlidingWindowClassifier(bert(), 2, 4, pool="attention", dropout=0.0)
    model(*padded(documents([11, 3])), labels=torch.tensor([0, 1])).loss.backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all()
        for n, p in model.named_parameters()
        if "pooler" not in n
    )
    assert model.attention[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
def test_gradient_in_float64(pool):
    """The pooling over windows, through a stand-in encoder whose states are the parameter itself."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = type("Config", (), {"hidden_size": 3})()
            self.weight = nn.Parameter(torch.randn(V, 3, dtype=torch.float64))

        def forward(self, input_ids, attention_mask):
            from transformers.modeling_outputs import BaseModelOutput

            return BaseModelOutput(last_hidden_state=nn.functional.embedding(input_ids, self.weight))

    torch.manual_seed(0)
    model = SlidingWindowClassifier(Table(), 2, 4, pool=pool, dropout=0.0).double()
    ids, mask = padded(documents([9, 3]))
    assert gradcheck(
        lambda w: torch.func.functional_call(model, {"encoder.weight": w}, (ids, mask)).logits,
        model.encoder.weight,
    )


# ---------------------------------------------------------------- both


MODELS = {
    "xlnet mean": lambda **k: XLNetLongClassifier(xlnet(), 2, segment_length=4, pool="mean", **k),
    "xlnet max": lambda **k: XLNetLongClassifier(xlnet(), 2, segment_length=4, pool="max", **k),
    "windows mean": lambda **k: SlidingWindowClassifier(bert(), 2, 4, pool="mean", **k),
    "windows max": lambda **k: SlidingWindowClassifier(bert(), 2, 4, pool="max", **k),
    "windows attention": lambda **k: SlidingWindowClassifier(bert(), 2, 4, pool="attention", **k),
}
ALL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@ALL
def test_documents_of_1_to_20000_tokens(make):
    model = make().eval()
    if isinstance(model, XLNetLongClassifier):
        model.segment_length = model.mem_len = 512
    else:
        model.windows_at_once = 500
    with torch.no_grad():
        for n in (1, 2, 511, 513, 20000):
            logits = model(documents([n])[0][None]).logits
            assert logits.shape == (1, 2) and torch.isfinite(logits).all()


@ALL
def test_all_padding_document_gives_the_bias_and_a_finite_gradient(make):
    model = make(dropout=0.0)
    ids, mask = padded(documents([9, 3]))
    mask[1] = 0
    out = model(ids, mask, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(out.logits[1], model.classifier.bias)
    out.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(model(ids[1:], mask[1:]).logits[0], model.classifier.bias)


@ALL
def test_inputs_are_left_as_they_are(make):
    ids, mask = padded(documents([9, 3]))
    mask[1] = 0
    before = ids.clone(), mask.clone()
    make()(ids, mask)
    make()(ids, mask.bool())
    assert torch.equal(ids, before[0]) and torch.equal(mask, before[1])


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_close_to_float32(make, dtype):
    model, (ids, mask) = make().eval(), padded(documents([11, 3]))
    expected = model(ids, mask).logits
    half = model.to(dtype)(ids, mask).logits
    assert half.dtype == dtype
    torch.testing.assert_close(
        half.float(), expected, rtol=0.1, atol={torch.float16: 0.02, torch.bfloat16: 0.15}[dtype]
    )


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_head_takes_the_dtype_of_a_half_precision_checkpoint(make, dtype):
    model = make()
    again = type(model)(model.encoder.to(dtype), 2, pool=model.pool)
    assert again(documents([11])[0][None]).logits.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@ALL
def test_on_cuda_equals_cpu(make):
    model, (ids, mask) = make().eval(), padded(documents([11, 3]))
    expected = model(ids, mask).logits
    torch.testing.assert_close(
        model.cuda()(ids.cuda(), mask.cuda()).logits.cpu(), expected, rtol=1e-4, atol=1e-4
    )


class Peak(TorchDispatchMode):
    """Largest number of bytes alive at once in tensors that operations made."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        import weakref

        out = function(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(out):
            if isinstance(t, torch.Tensor):
                pointer, size = t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()
                count = self.alive.get(pointer, 0)
                self.now += 0 if count else size
                self.alive[pointer] = count + 1
                weakref.finalize(t, self.forget, pointer, size)
        self.peak = max(self.peak, self.now)
        return out

    def forget(self, pointer, size):
        self.alive[pointer] -= 1
        if not self.alive[pointer]:
            del self.alive[pointer]
            self.now -= size


@pytest.mark.parametrize(
    "make",
    [
        lambda: XLNetLongClassifier(
            XLNetModel(XLNetConfig(vocab_size=V, d_model=64, n_layer=2, n_head=2, d_inner=64)),
            2,
            segment_length=64,
        ),
        lambda: SlidingWindowClassifier(
            bert(hidden_size=64, intermediate_size=64, max_position_embeddings=64), 2, windows_at_once=4
        ),
    ],
    ids=["xlnet", "windows"],
)
def test_memory_in_evaluation_grows_with_the_segment_and_not_with_the_document(make):
    """Per further token: ids, masks and the segments' vectors, not states. With gradient the states are
    kept.
    """
    model, peaks = make().eval(), {}
    for gradient in (False, True):
        for n in (512, 2048):
            with torch.set_grad_enabled(gradient), Peak() as peak:
                logits = model(documents([n])[0][None]).logits
            peaks[n, gradient] = peak.peak
            del logits
    without, with_gradient = ((peaks[2048, g] - peaks[512, g]) / 1536 for g in (False, True))
    state = 4 * 64  # bytes of one token's state in one layer
    assert without < state / 2 and with_gradient > 10 * state, (without, with_gradient, peaks)


def test_classifier_trains_under_transformers_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    model = XLNetLongClassifier(xlnet(dropout=0.0), 2, segment_length=4, dropout=0.0)
    # only the last token tells the class, in the third segment
    rows = [
        {"input_ids": [5] * 9 + [7 + i % 2], "attention_mask": [1] * 10, "labels": i % 2} for i in range(8)
    ]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=30,
        learning_rate=0.02,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    assert (trainer.predict(rows).predictions.argmax(-1) == np.arange(8) % 2).all()


# ---------------------------------------------------------------- freezing


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freeze_names_layers_by_number_and_xlnet_has_no_pooler():
    """``'layer.8' in name or ... 'pooler.dense' in name``: the second matches nothing in XLNet, ``layer.1``
    also matches 10 to 13.
    """
    model = XLNetLongClassifier(xlnet(14), 2)
    assert not any("pooler" in name for name, _ in model.named_parameters())
    kept = freeze_all_but_last(model, 3)
    expected = {
        n
        for n, _ in model.named_parameters()
        if n.startswith(("encoder.layer.11.", "encoder.layer.12.", "encoder.layer.13.", "classifier."))
    }
    assert set(kept) == trainable(model) == expected
    freeze_all_but_last(model, 13)
    assert any(n.startswith("encoder.layer.1.") for n in trainable(model)) and not any(
        n.startswith("encoder.layer.0.") for n in trainable(model)
    )


def test_numbers_of_numpy_are_numbers():
    ids = documents([9])[0][None]
    assert len(split_into_segments(ids, np.int64(4))) == 3
    assert torch.equal(truncate_head_tail(ids, np.int64(4)), truncate_head_tail(ids, 4))
    model = XLNetLongClassifier(xlnet(), np.int64(2), segment_length=np.int32(4), mem_len=np.int64(2))
    assert model(ids).logits.shape == (1, 2)
    freeze_all_but_last(model, np.int64(1))
    windows = SlidingWindowClassifier(bert(), 2, np.int64(4), np.int64(2), windows_at_once=np.int64(1))
    assert windows(ids).logits.shape == (1, 2)


def test_freeze_nothing_but_the_head_and_all_but_the_embeddings():
    model = XLNetLongClassifier(xlnet(3), 2)
    assert trainable(model) - {"classifier.weight", "classifier.bias"}
    assert set(freeze_all_but_last(model, 0)) == {"classifier.weight", "classifier.bias"} == trainable(model)
    freeze_all_but_last(model, 3)  # unfreezes, as it says
    assert {n for n, _ in model.named_parameters()} - trainable(model) == {
        "encoder.mask_emb",
        "encoder.word_embedding.weight",
    }


def test_freeze_keeps_pooler_and_head_of_bert():
    model = BertForSequenceClassification(bert().config)
    kept = freeze_all_but_last(model, 1)
    assert {n.split(".")[0] + "." + n.split(".")[1] for n in kept} == {
        "bert.encoder",
        "bert.pooler",
        "classifier.weight",
        "classifier.bias",
    }
    assert all("encoder.layer.1." in n for n in kept if n.startswith("bert.encoder"))


def test_frozen_layers_do_not_move():
    model = XLNetLongClassifier(xlnet(3, dropout=0.0), 2, segment_length=4, dropout=0.0)
    freeze_all_but_last(model, 1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(*padded(documents([9, 3])), labels=torch.tensor([0, 1])).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all(n.startswith(("encoder.layer.2.", "classifier.")) for n in moved)


# ---------------------------------------------------------------- bad input


IDS = torch.ones(2, 9, dtype=torch.long)
BAD_BATCH = {
    "input_ids is a list": (dict(input_ids=[[1, 2]]), TypeError, "input_ids"),
    "input_ids is None": (dict(input_ids=None), TypeError, "input_ids"),
    "input_ids are floats": (dict(input_ids=IDS.float()), TypeError, "input_ids"),
    "input_ids are bools": (dict(input_ids=IDS > 0), ValueError, "input_ids"),
    "input_ids are bytes": (dict(input_ids=IDS.to(torch.uint8)), ValueError, "input_ids"),
    "input_ids is one text": (dict(input_ids=IDS[0]), ValueError, "input_ids"),
    "input_ids has three axes": (dict(input_ids=IDS[None]), ValueError, "input_ids"),
    "empty batch": (dict(input_ids=IDS[:0]), ValueError, "input_ids"),
    "no tokens": (dict(input_ids=IDS[:, :0]), ValueError, "input_ids"),
    "mask is a list": (dict(attention_mask=[[1] * 9] * 2), TypeError, "attention_mask"),
    "mask is transposed": (dict(attention_mask=torch.ones(9, 2)), ValueError, "attention_mask"),
    "mask is shorter": (dict(attention_mask=torch.ones(2, 8)), ValueError, "attention_mask"),
    "additive mask": (dict(attention_mask=torch.full((2, 9), -1e4)), ValueError, "attention_mask"),
    "mask with NaN": (dict(attention_mask=torch.full((2, 9), float("nan"))), ValueError, "attention_mask"),
    "mask on another device": (
        dict(attention_mask=torch.ones(2, 9, device="meta")),
        ValueError,
        "attention_mask",
    ),
}
BAD_TOKEN_TYPES = {
    "input_ids on another device": (dict(input_ids=IDS.to("meta")), ValueError, "input_ids"),
    "token types are floats": (dict(token_type_ids=IDS.float()), TypeError, "token_type_ids"),
    "token types are a list": (dict(token_type_ids=[[0] * 9] * 2), TypeError, "token_type_ids"),
    "token types are shorter": (dict(token_type_ids=IDS[:, :4]), ValueError, "token_type_ids"),
    "token types on another device": (dict(token_type_ids=IDS.to("meta")), ValueError, "token_type_ids"),
}
BAD_LABELS = {
    "labels too large": (dict(labels=torch.tensor([0, 2])), ValueError, "labels"),
    "labels too few": (dict(labels=torch.tensor([0])), ValueError, "labels"),
    "labels negative": (dict(labels=torch.tensor([0, -1])), ValueError, "labels"),
    "labels of another width": (dict(labels=torch.zeros(2, 3)), ValueError, "labels"),
}


def fails(function, changes, error, name, **arguments):
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        function(**{**arguments, **changes})


BAD_SPLIT = BAD_BATCH | {
    "segment_length is 0": (dict(segment_length=0), ValueError, "segment_length"),
    "segment_length is negative": (dict(segment_length=-1), ValueError, "segment_length"),
    "segment_length is a float": (dict(segment_length=4.0), TypeError, "segment_length"),
    "segment_length is None": (dict(segment_length=None), TypeError, "segment_length"),
    "segment_length is a bool": (dict(segment_length=True), TypeError, "segment_length"),
}
BAD_TRUNCATE = BAD_BATCH | {
    "max_length is 0": (dict(max_length=0), ValueError, "max_length"),
    "max_length is a float": (dict(max_length=4.0), TypeError, "max_length"),
    "head_length is negative": (dict(head_length=-1), ValueError, "head_length"),
    "head_length is above max_length": (dict(head_length=5), ValueError, "head_length"),
    "head_length is a share": (dict(head_length=0.5), TypeError, "head_length"),
}


@pytest.mark.parametrize("case", BAD_SPLIT)
def test_bad_input_of_split_is_an_error_that_names_the_argument(case):
    fails(split_into_segments, *BAD_SPLIT[case], input_ids=IDS, segment_length=4)


@pytest.mark.parametrize("case", BAD_TRUNCATE)
def test_bad_input_of_truncate_is_an_error_that_names_the_argument(case):
    fails(truncate_head_tail, *BAD_TRUNCATE[case], input_ids=IDS, max_length=4)


BAD_FORWARD = BAD_BATCH | BAD_TOKEN_TYPES | BAD_LABELS


@pytest.mark.parametrize("name", ["xlnet mean", "windows mean"])
@pytest.mark.parametrize("case", BAD_FORWARD)
def test_bad_batch_is_an_error_that_names_the_argument(name, case):
    fails(MODELS[name](), *BAD_FORWARD[case], input_ids=IDS)


BAD_XLNET = {
    "encoder is None": (dict(encoder=None), TypeError, "encoder"),
    "encoder is BERT": (dict(encoder=bert), TypeError, "encoder"),
    "encoder has a head": (
        dict(encoder=lambda: XLNetForSequenceClassification(xlnet().config)),
        TypeError,
        "encoder",
    ),
    "encoder forgets the end of a segment": (dict(encoder=lambda: xlnet(reuse_len=2)), ValueError, "encoder"),
    "num_labels is a bool": (dict(num_labels=True), TypeError, "num_labels"),
    "segment_length is infinite": (dict(segment_length=float("inf")), TypeError, "segment_length"),
    "dropout is infinite": (dict(dropout=float("inf")), ValueError, "dropout"),
    "num_labels is 0": (dict(num_labels=0), ValueError, "num_labels"),
    "segment_length is 0": (dict(segment_length=0), ValueError, "segment_length"),
    "segment_length is a word": (dict(segment_length="4"), TypeError, "segment_length"),
    "mem_len is negative": (dict(mem_len=-1), ValueError, "mem_len"),
    "mem_len is a float": (dict(mem_len=4.0), TypeError, "mem_len"),
    "mem_len is more than the encoder keeps": (dict(mem_len=513), ValueError, "mem_len"),
    "pool is another word": (dict(pool="last"), ValueError, "pool"),
    "dropout is above 1": (dict(dropout=1.1), ValueError, "dropout"),
}
BAD_WINDOWS = {
    "encoder is a name": (dict(encoder="bert-base-uncased"), TypeError, "encoder"),
    "encoder without a config": (dict(encoder=lambda: nn.Linear(2, 2)), TypeError, "encoder"),
    "num_labels is a float": (dict(num_labels=2.0), TypeError, "num_labels"),
    "window longer than the positions": (dict(window_length=17), ValueError, "window_length"),
    "window_length is 0": (dict(window_length=0), ValueError, "window_length"),
    "window_length is a float": (dict(window_length=8.0), TypeError, "window_length"),
    "stride is 0": (dict(stride=0), ValueError, "stride"),
    "stride leaves tokens out": (dict(window_length=8, stride=9), ValueError, "stride"),
    "stride is a share": (dict(stride=0.5), TypeError, "stride"),
    "windows_at_once is 0": (dict(windows_at_once=0), ValueError, "windows_at_once"),
    "windows_at_once is a float": (dict(windows_at_once=8.0), TypeError, "windows_at_once"),
    "pool is another word": (dict(pool="cls"), ValueError, "pool"),
    "pool is None": (dict(pool=None), ValueError, "pool"),
    "dropout is NaN": (dict(dropout=float("nan")), ValueError, "dropout"),
}


@pytest.mark.parametrize(
    "classifier, default, table, case",
    [(XLNetLongClassifier, xlnet, BAD_XLNET, c) for c in BAD_XLNET]
    + [(SlidingWindowClassifier, bert, BAD_WINDOWS, c) for c in BAD_WINDOWS],
)
def test_bad_classifier_argument_is_an_error_that_names_it(classifier, default, table, case):
    changes, error, name = table[case]
    arguments = {"encoder": default, "num_labels": 2, **changes}
    if callable(arguments["encoder"]):
        arguments["encoder"] = arguments["encoder"]()
    fails(classifier, {}, error, name, **arguments)


BAD_FREEZE = {
    "model is a name": (dict(model="xlnet"), TypeError, "model"),
    "model without an encoder": (dict(model=nn.Linear(2, 2)), ValueError, "model"),
    "more layers than there are": (dict(num_layers=3), ValueError, "num_layers"),
    "num_layers is negative": (dict(num_layers=-1), ValueError, "num_layers"),
    "num_layers is a float": (dict(num_layers=1.0), TypeError, "num_layers"),
    "num_layers is None": (dict(num_layers=None), TypeError, "num_layers"),
}


@pytest.mark.parametrize("case", BAD_FREEZE)
def test_bad_input_of_freeze_is_an_error_that_names_the_argument_and_freezes_nothing(case):
    changes, error, name = BAD_FREEZE[case]
    model = xlnet(2)
    fails(freeze_all_but_last, changes, error, name, model=model, num_layers=1)
    assert len(trainable(model)) == len(list(model.parameters()))
