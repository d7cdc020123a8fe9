"""The book's table of evidence on frozen models: poolings (chapter 1) and layers (chapter 3), each on an
encoder that its authors trained through mean pooling, and on a decoder; parts of long texts (chapter 5).

The arms were written down before they ran; nothing here is chosen by what a test set said.
"""

from tricks_lib.lab.compare import tokens
from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.kinds.frozen import ProbeArm, ProbeComparison
from tricks_lib.lab.compare.kinds.long import LongComparison

RATES, ITERATIONS = (0.04, 0.08, 0.16, 0.32), 100
MANY_CLASSES = (0.16, 0.32, 0.64, 1.28)  # rates for 77 classes: validation goes on rising up to there
MINILM, SMOLLM = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"
PROBED = {
    "rate": "expected weight", "unit": "iterations of L-BFGS", "max_length": 64, "pool": 3000,
    "pools": ("first", "mean", "max"), "normed": False,
}  # fmt: skip
SMOLLM_LAYERS = (8, 16, 24, 30)  # of 30
DECODER = {"layers": SMOLLM_LAYERS, "pools": ("last", "first", "mean", "weighted")}


def row(name, data, model, arms: dict[str, Arm], metric, rows: dict, rates=RATES, **training):
    """One row of the table, as a function that makes it."""

    def make() -> ProbeComparison:
        given = PROBED | {"rows": rows} | training
        command = f"python -m tricks_lib.lab run {name}"
        return ProbeComparison(
            name, tokens.Source(data), model, arms, metric, given, rates, ITERATIONS, command=command
        )

    return make


POOLING = {
    "first token": ProbeArm({}),
    "mean": ProbeArm({"pool": "mean"}, "mean_pooling", "max"),
    "max": ProbeArm({"pool": "max"}),
}


def of_decoder(layers) -> dict[str, Arm]:
    """Poolings of a decoder at some layers; the last token of the last layer is what is usually taken."""
    top = max(layers)
    found = {f"last token, layer {top}": ProbeArm()}
    found["first token"] = ProbeArm({"pool": "first"})
    for layer in sorted(layers, reverse=True):
        own = {} if layer == top else {"layer": layer}
        if own:
            found[f"last token, layer {layer}"] = ProbeArm(own)
        last = f"last token, layer {layer}" if own else "first token"
        found[f"mean, layer {layer}"] = ProbeArm({"pool": "mean", **own}, "mean_pooling", last)
        found[f"weighted mean, layer {layer}"] = ProbeArm(
            {"pool": "weighted", **own}, "mean_pooling", f"mean, layer {layer}"
        )
    return found


def of_layers(layers) -> dict[str, Arm]:
    """Single layers and the last four together."""
    return {
        "last layer": ProbeArm(),
        **{f"layer {layer}": ProbeArm({"layer": layer}) for layer in layers},
        "one layer, tuned": ProbeArm(candidates=({}, *({"layer": layer} for layer in layers))),
        "as wide": ProbeArm({"read": "wide"}),
        "last four side by side": ProbeArm({"read": "concat"}, "last_four", "as wide"),
        "last four, weighted": ProbeArm({"read": "weighted"}, "last_four", "one layer, tuned"),
    }


LONG = {
    "head": ProbeArm(),
    "tail": ProbeArm({"part": "tail"}),
    "head and tail": ProbeArm({"part": "head and tail"}),
    "windows, mean": ProbeArm({"windows": "mean"}, "xlnet_long_text", "head and tail"),
    "windows, max": ProbeArm({"windows": "max"}, "xlnet_long_text", "head and tail"),
    "windows, attention": ProbeArm(
        {"windows": "attention", "read": "attention"}, "xlnet_long_text", "windows, mean"
    ),
}


def reviews() -> LongComparison:
    """Reviews read 256 tokens at a time, windows side by side."""
    name = "long/en_moviereview2k"
    training = {
        **{k: v for k, v in PROBED.items() if k in ("rate", "unit")},
        "max_length": 8192, "pool": 500, "rows": {"rows": 400}, "length": 256, "stride": 256,
    }  # fmt: skip
    return LongComparison(
        name, tokens.Source("en_moviereview2k"), MINILM, LONG, "accuracy", training, RATES, ITERATIONS,
        command=f"python -m tricks_lib.lab run {name}",
    )  # fmt: skip


FEW, TEN, SENTENCES = {"rows": 1000}, {"per_class": 10}, {"rows": 500}
MINILM_LAYERS, FOURTH = (5, 4, 3, 2, 1), (28, 24, 20, 16, 12, 8, 4)
READ = {"normed": True, "pools": ("mean",)}
ROWS = {
    name: row(name, *given, **training)
    for name, *given, training in [
        ("pooling/en_trec", "en_trec", MINILM, POOLING, "accuracy", FEW, {"layers": (6,)}),
        ("pooling/en_banking77", "en_banking77", MINILM, POOLING, "accuracy", TEN,
         {"layers": (6,), "rates": MANY_CLASSES}),
        ("pooling_smollm2/en_trec", "en_trec", SMOLLM, of_decoder(SMOLLM_LAYERS), "accuracy", FEW, DECODER),
        ("pooling_smollm2/en_banking77", "en_banking77", SMOLLM, of_decoder(SMOLLM_LAYERS), "accuracy", TEN,
         {**DECODER, "rates": MANY_CLASSES}),
        ("layers/en_trec", "en_trec", MINILM, of_layers(MINILM_LAYERS), "accuracy", FEW,
         {**READ, "layers": (1, 2, 3, 4, 5, 6)}),
        ("layers_smollm2/en_trec", "en_trec", SMOLLM, of_layers(FOURTH), "accuracy", FEW,
         {**READ, "layers": (*FOURTH, 27, 29, 30)}),
        ("layers/en_wnut17", "en_wnut17", MINILM, of_layers(MINILM_LAYERS), "entity_f1", SENTENCES,
         {**READ, "layers": (1, 2, 3, 4, 5, 6)}),
        ("layers_smollm2/en_wnut17", "en_wnut17", SMOLLM, of_layers(FOURTH[::2]), "entity_f1", SENTENCES,
         {**READ, "layers": (*FOURTH[::2], 27, 29, 30)}),
    ]
}  # fmt: skip
COMPARISONS = {**ROWS, "long/en_moviereview2k": reviews}
