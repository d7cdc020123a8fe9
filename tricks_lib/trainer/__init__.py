"""Every training trick of the book in ``transformers.Trainer``, by configuration. One idea per file:

    arguments       TricksArguments, which say what the tricks are
    attacks         the adversarial passes of one step
    tricks_trainer  TricksTrainer

With m the micro-batches of one optimizer step on all processes, B_m the labelled examples (or tokens) of one
and l_i their losses, the step minimises

    L = sum_m (|B_m| / sum_m |B_m|) mean_(i in B_m) l_i                                            (1)

so that 4 micro-batches of 8, or 2 processes with 16, are one batch of 32, whatever the padding. (Trainer, up
to 5.23, takes the loss of a model that accepts loss keywords as divided already, also where it is a plain
mean: 4 micro-batches then weigh four times as much.) The tricks change a step so, any of them together:

    loss                            another l
    R-Drop                          1/2 (l(p) + l(q)) + alpha D(p, q) for l, each micro-batch written twice
    FGM, PGD, AWP, FreeLB, random   further backward passes of the same loss at the attacked weights
    layer decay                     a learning rate for each layer
    EMA                             an average that follows the weights, in their place when they are
                                    evaluated or saved

Sources: those of the tricks' own modules.
"""

from tricks_lib._extras import need

need("trainer", "accelerate")

from tricks_lib.trainer.arguments import TricksArguments  # noqa: E402
from tricks_lib.trainer.ema_callback import EMACallback  # noqa: E402
from tricks_lib.trainer.tricks_trainer import TricksTrainer  # noqa: E402

__all__ = ["TricksArguments", "TricksTrainer", "EMACallback"]
