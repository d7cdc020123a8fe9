"""One noisy weight and its moving average, moved by the decay."""

import numpy as np

from tricks_lib.lab import interactive, plots

MOVE = """
const {decay, "learning rate": rate} = at, start = 3;
let weight = start, plain = start, warm = start;
const path = {step: [0], weight: [weight], plain: [plain], warm: [warm]};
data.forEach((noise, i) => {
  const n = i + 1, grown = Math.min(decay, (1 + n) / (10 + n));  // (3)
  weight -= rate * (weight + 3 * noise);
  plain += (1 - decay) * (weight - plain);                       // (1)
  warm += (1 - grown) * (weight - warm);
  path.step.push(n); path.weight.push(weight); path.plain.push(plain); path.warm.push(warm);
});
const off = values => Math.sqrt(values.slice(-300).reduce((sum, x) => sum + x * x, 0) / 300).toFixed(2);
const percent = x => x.toLocaleString("en", {style: "percent", maximumSignificantDigits: 2});
return {
  path,
  sentence: `Decay ${decay} looks back about ${Math.round(1 / (1 - decay)).toLocaleString("en")} steps, ` +
    `1 / (1 - decay); after ${data.length} steps ` +
    `the start still has a share of ${percent(decay ** data.length)}. Distance from the best value over ` +
    `the last 300 steps ` +
    `(root mean square): the weight ${off(path.weight)}, its average ${off(path.plain)}, with warm-up ` +
    `${off(path.warm)}.`,
};
"""
DECAYS = [
    0, 0.5, 0.7, 0.8, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9993, 0.9995,
    0.9997, 0.9998, 0.9999,
]  # fmt: skip


def playground(steps: int = 600):
    """The path of one weight under noisy gradients (start 3, noise 3, seed 0), as chapter 6 follows it, and
    its average with and without warm-up, moved by decay and learning rate.
    """
    path = interactive.source("path", "step", "weight", "plain", "warm")
    ax = interactive.axes("step", "value", height=340, x_range=(0, steps), y_range=(-3, 4))
    for name, label, colour, width, dash in (
        ("weight", "the weight", "#bbbbbb", 1, "solid"),
        ("plain", "average", plots.BLUE, 3, "solid"),
        ("warm", "average, warm-up", plots.RED, 3, "dashed"),
    ):
        ax.line("step", name, source=path, legend_label=label, color=colour, width=width, line_dash=dash)
    return interactive.playground(
        "ema-by-hand",
        "A noisy line, one weight over the steps of its training, and two smoother ones, its moving average "
        "with and without warm-up.",
        [ax],
        {"decay": (DECAYS, 0.99), "learning rate": ([0.01, 0.02, 0.05, 0.1, 0.2, 0.3], 0.1)},
        MOVE,
        data=np.random.default_rng(0).standard_normal(steps).round(3).tolist(),
    )
