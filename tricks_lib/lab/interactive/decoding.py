"""The next token's distribution, moved by temperature and filters."""

import copy

import torch
from bokeh.models import DataRange1d

from tricks_lib.lab import interactive

MOVE = """
const {"after the words": words, temperature, "top-k": top_k, "top-p": top_p, "min-p": min_p} = at, {tokens,
  top, levels} = data[words];
const own = [...top];
  // all V probabilities, the largest first
levels.forEach((count, level) => { for (; count > 0; count--) own.push(Math.exp(-level / 100)); });
const sum = values => values.reduce((a, b) => a + b, 0), normal = values => { const total = sum(values);
  return values.map(x => x / total); };
const q = normal(own.map(x => (x / own[0]) ** (1 / temperature)));                          // (6)
let kept = Math.min(top_k ?? q.length, q.length);
if (top_p !== null) {
  // of what top-k has left
  const enough = top_p * sum(q.slice(0, kept));
  let n = 0;
  for (let mass = 0; n < kept && (n === 0 || mass < enough); n++) mass += q[n];
  kept = top_p < 1 ? n : kept;
}
if (min_p !== null) kept = q.slice(0, kept).filter(x => x >= min_p * q[0]).length;
const mass = sum(q.slice(0, kept)), drawn = normal(q.slice(0, kept));
const percent = x => x.toLocaleString("en", {style: "percent", maximumSignificantDigits: 2});
const place = tokens.map((_, i) => -i), now = tokens.map((_, i) => drawn[i] ?? 0);
return {
  bars: {place, now, own: q.slice(0, tokens.length), colour: tokens.map((_, i) => i < kept ? "#0072B2"
    : "#666666"),
         words: tokens.map((token, i) => i < kept ? `${token}  ${percent(now[i])}` : token),
         end: tokens.map((_, i) => Math.max(now[i], q[i])), reach: tokens.map(() => 1.6 * Math.max(now[0],
           q[0]))},
  sentence: `Kept: ${kept.toLocaleString("en")} of ${q.length.toLocaleString("en")} tokens, with ` +
    `${percent(mass)} of the probability at this temperature. ` +
    `The most probable one is drawn with ${percent(drawn[0])}; without filters and temperature, ` +
    `${percent(normal(own)[0])}.`,
};
"""
NAMED = 25  # tokens that are shown; of the others the probability is enough


@torch.no_grad()
def distribution(model, input_ids, decode) -> dict:
    """The next token's distribution after a prompt (1, T), small enough for a page and the same on every
    processor.

    Returns:
        ``tokens`` and ``top``, names and probabilities (4 digits) of the NAMED most probable ones, and
        ``levels``: of all others the number whose -log p is, to the nearest hundredth of a nat, 0.00, 0.01,
        0.02 ...
    """
    wide = copy.deepcopy(model).double()  # in float32 the last digits depend on the processor
    log_p, order = wide(input_ids).logits[0, -1].log_softmax(-1).cpu().sort(descending=True)
    return {
        "tokens": [decode([i]).strip() or repr(decode([i])) for i in order[:NAMED].tolist()],
        "top": [float(f"{p:.4g}") for p in log_p[:NAMED].exp().tolist()],
        "levels": torch.bincount((-100 * log_p[NAMED:]).round().long()).tolist(),
    }  # fmt: skip


def playground(distributions: dict[str, dict]):
    """The most probable next tokens after a prompt, moved by temperature, top-k, top-p and min-p, as
    :func:`tricks_lib.decoding.sample` has them.

    Args:
        distributions: prompt -> :func:`distribution`.
    """
    bars = interactive.source("bars", "place", "now", "own", "colour", "words", "end", "reach")
    right = DataRange1d(start=0, range_padding=0)
    ax = interactive.axes("probability", "", height=520, x_range=right, y_range=(0.3 - NAMED, 0.7))
    ax.yaxis.visible = ax.ygrid.visible = False
    ax.xaxis.bounds = ax.xgrid.bounds = (0, 1)
    ax.scatter("reach", "place", source=bars, alpha=0)  # leaves room for the words
    ax.hbar("place", right="own", height=0.8, source=bars, color="#d5d5d5", legend_label="temperature alone")
    ax.hbar("place", right="now", height=0.45, source=bars, color="colour", legend_label="after the filters")
    look = {"x_offset": 5, "text_baseline": "middle", "text_font_size": "13px"}
    ax.text("end", "place", "words", source=bars, color="colour", **look)
    ax.legend.location = "bottom_right"
    controls = {
        "after the words": (list(distributions), next(iter(distributions))),
        "temperature": ([i / 10 for i in range(1, 21)], 1.0),
        "top-k": ([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, None], None),
        "top-p": ([i / 20 for i in range(1, 20)] + [0.98, 0.99, None], 0.9),
        "min-p": ([None, 0.01, 0.02, 0.05, *(i / 10 for i in range(1, 10))], None),
    }
    label = (
        "Bars of the most probable next tokens; those that a filter cuts are grey, the others share the "
        "probability."
    )
    return interactive.playground("decoding-by-hand", label, [ax], controls, MOVE, data=distributions)
