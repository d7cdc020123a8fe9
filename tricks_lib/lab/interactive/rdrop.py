"""Two passes of one example with R-Drop, by hand and by slider."""

import torch
from bokeh.models import Arrow, VeeHead

from tricks_lib.lab import interactive, plots
from tricks_lib.rdrop import rdrop_loss


def descent(first: float, second: float, alpha: float, steps: int = 80, lr: float = 0.25):
    """Two passes of one example of two classes, moved down the gradient of :func:`rdrop_loss`; a pass is one
    logit, that of the true class.

    Args:
        first, second: probability that each pass gives to the true class at the start.

    Returns:
        (steps + 1, 2), these probabilities after each step.
    """
    x, label, path = (
        torch.tensor([first, second], dtype=torch.float64).logit().requires_grad_(),
        torch.tensor([0]),
        [],
    )
    for _ in range(steps + 1):
        logits = torch.stack([x, torch.zeros_like(x)], dim=1)  # (2 passes, 2 classes)
        (slope,) = torch.autograd.grad(rdrop_loss(logits[:1], logits[1:], label, alpha), x)
        path.append(x.detach().sigmoid())
        x.data -= lr * slope
    return torch.stack(path)


MOVE = """
const {alpha, "first pass": first, "second pass": second} = at, lr = 0.25, steps = 80;
const sigmoid = x => 1 / (1 + Math.exp(-x)), logit = p => Math.log(p / (1 - p));
// Of (2) with two classes: D = (p - q)(x - y) / 2, where x and y are the logits of p and q.
const slope = (x, y, alpha) => { const p = sigmoid(x), q = sigmoid(y);
  return ((p - 1) + alpha * (p * (1 - p) * (x - y) + p - q)) / 2; };
const follow = alpha => {
  let [x, y] = [logit(first), logit(second)], p = [first], q = [second];
  for (let i = 0; i < steps; i++) {
    [x, y] = [x - lr * slope(x, y, alpha), y - lr * slope(y, x, alpha)];
    p.push(sigmoid(x)); q.push(sigmoid(y));
  }
  return {step: p.map((_, i) => i), p, q};
};
const arrows = {x0: [], y0: [], x1: [], y1: []}, grid = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75,
  0.85, 0.95];
for (const p of grid) for (const q of grid) {
  const [x, y] = [logit(p), logit(q)], down = [-p * (1 - p) * slope(x, y, alpha), -q * (1 - q) * slope(y, x,
    alpha)];
  const length = 0.055 / Math.hypot(...down);
  arrows.x0.push(p); arrows.y0.push(q); arrows.x1.push(p + length * down[0]);
    arrows.y1.push(q + length * down[1]);
}
const path = follow(alpha), plain = follow(0), sure = first >= second ? path.p : path.q,
  lowest = Math.min(...sure);
const close = ({p, q}) => { const n = p.findIndex((_, i) => Math.abs(p[i] - q[i]) < 0.05); return n < 0
  ? `not within ${steps} steps` : `after ${n} steps`; };
const [high, low] = [Math.max(first, second), Math.min(first, second)], apart = logit(high) - logit(low);
const border = (1 - high) / (high * (1 - high) * apart + high - low);
return {
  arrows, path, plain,
  sentence: (high === low ? "Passes that agree: the term is zero, and alpha changes nothing. " :
    `Alpha ${alpha}: the surer pass starts at ${high} and ` + (lowest < high
      ? `is pulled back, down to ${lowest.toFixed(2)}` : "is never pulled back") +
    `; from this start that begins at alpha ${border.toFixed(2)}. `) +
    `The passes differ by less than 0.05 ${close(path)}; without the term, ${close(plain)}.`,
};
"""


def playground():
    """Where equation (2) moves the probabilities of two passes for the true class, moved by alpha and by
    where they start.
    """
    arrows = interactive.source("arrows", "x0", "y0", "x1", "y1")
    paths = {name: interactive.source(name, "step", "p", "q") for name in ("plain", "path")}
    plane = interactive.axes(
        "first pass: probability of the true class", "second pass", height=380, x_range=(0, 1), y_range=(0, 1)
    )
    head = VeeHead(size=6, fill_color="#aaaaaa", line_color="#aaaaaa")
    plane.add_layout(
        Arrow(
            x_start="x0", y_start="y0", x_end="x1", y_end="y1", source=arrows, end=head, line_color="#aaaaaa"
        )
    )
    plane.line([0, 1], [0, 1], color="#444444", line_dash="dotted")
    time = interactive.axes("step", "probability", height=240, x_range=(0, 80), y_range=(0, 1))
    for name, label, width, dash in ("plain", "alpha 0", 2, "dashed"), ("path", "this alpha", 4, "solid"):
        plane.line(
            "p", "q", source=paths[name], color=plots.RED, width=width, line_dash=dash, legend_label=label
        )
        for of, colour, which in ("p", plots.BLUE, "first"), ("q", plots.ORANGE, "second"):
            time.line(
                "step", of, source=paths[name], color=colour, width=width, line_dash=dash,
                legend_label=f"{which} pass, {label}",
            )  # fmt: skip
    plane.legend.location = "top_left"
    time.legend.location = "bottom_right"
    starts = [0.02, 0.05, *(i / 10 for i in range(1, 10)), 0.95, 0.98]
    return interactive.playground(
        "rdrop-by-hand",
        "Above, the plane of the probabilities that two passes give to the true class: arrows show where "
        "the gradient moves them, "
        "a line the way from the start chosen. Below, both probabilities over the steps, with and without "
        "the term.",
        [plane, time],
        {
            "alpha": ([0, 0.1, 0.2, 0.5, 1, 2, 4, 8], 2),
            "first pass": (starts, 0.9),
            "second pass": (starts, 0.3),
        },
        MOVE,
    )
