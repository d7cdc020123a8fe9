"""Loss and gradient of an example, moved by gamma and alpha."""

from tricks_lib.lab import interactive, plots

MOVE = """
const {gamma, alpha} = at, [positives, negatives] = alpha === null ? [1, 1] : [alpha, 1 - alpha];
const loss = p => (1 - p) ** gamma * -Math.log(p);                                  // (1)
const slope = p => (1 - p) ** gamma * (gamma * p * -Math.log(p) + 1 - p);           // (3), its size
const p = Array.from({length: 199}, (_, i) => (i + 1) / 200), times = (a, f) => p.map(x => a * f(x));
const percent = x => x.toLocaleString("en", {style: "percent", maximumSignificantDigits: 2});
const ten = 10 * positives * slope(0.1), thousand = 1000 * negatives * slope(0.95);
return {
  curves: {
    p, cross_entropy: p.map(x => -Math.log(x)), loss_positive: times(positives, loss),
      loss_negative: times(negatives, loss),
    plain: p.map(x => 1 - x), slope_positive: times(positives, slope), slope_negative: times(negatives,
      slope),
  },
  sentence: `Gamma ${gamma}: at p = 0.9, (1 - p)^gamma leaves ${percent(0.1 ** gamma)} of ` +
    `cross-entropy's loss and ` +
    `${percent(slope(0.9) / 0.1)} of its gradient. ` +
    `Alpha ${alpha ?? "off"}: of ten positives at p = 0.1 and a thousand negatives at p = 0.95, ` +
    `the ten have ${percent(ten / (ten + thousand))} of the gradient.`,
};
"""


def playground():
    """Loss and gradient of an example against the probability p of its true label, moved by gamma and
    alpha.
    """
    columns = (
        "p",
        "cross_entropy",
        "loss_positive",
        "loss_negative",
        "plain",
        "slope_positive",
        "slope_negative",
    )
    curves = interactive.source("curves", *columns)
    loss = interactive.axes("", "loss", x_range=(0, 1), y_range=(0, 4))
    slope = interactive.axes(
        "probability p of the true label", "size of the gradient", x_range=(0, 1), y_range=(0, 1.25)
    )
    looks = {
        "cross-entropy": (plots.GREY, 2, "dashed"),
        "focal, label 1": (plots.BLUE, 5, "solid"),
        "focal, label 0": (plots.ORANGE, 2, "solid"),
    }
    for (label, (colour, width, dash)), above, below in zip(looks.items(), columns[1:4], columns[4:]):
        loss.line("p", above, source=curves, color=colour, width=width, line_dash=dash, legend_label=label)
        slope.line("p", below, source=curves, color=colour, width=width, line_dash=dash)
    return interactive.playground(
        "focal-loss-by-hand",
        "Two plots against the probability of the true label, above the loss, below the size of its "
        "gradient: "
        "cross-entropy, and focal loss for positive and for negative examples.",
        [loss, slope],
        {
            "gamma": ([i / 4 for i in range(21)], 2.0),
            "alpha": ([None, *(i / 20 for i in range(1, 20))], 0.25),
        },
        MOVE,
    )
