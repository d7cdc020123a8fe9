"""Focal loss: cross-entropy in which easy examples count less and hard ones keep their weight. One file an
idea:

    binary    independent yes/no labels: equations (2) and (5)
    classes   one class among several: equations (4) and (5)
    slopes    the same with their gradients, (3) and (4), in fewer passes
    value     what of the two is computed, and the mean

With p_t the probability that the model gives to the true label, cross-entropy is -log p_t. Focal loss
multiplies it by a factor that vanishes as the example becomes easy:

    FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t                                                  (1)

gamma = 0 is (weighted) cross-entropy; gamma = 2 gives an example with p_t = 0.9 a hundredth of its weight.
Binary, with logit x and label y, everything follows from one number, z = (1 - 2y) x: how far the logit is on
the wrong side:

    p_t = sigmoid(-z),   FL = alpha_t sigmoid(z)^gamma softplus(z)                              (2)
    dFL/dz = alpha_t sigmoid(z)^gamma (gamma (1 - sigmoid(z)) softplus(z) + sigmoid(z))         (3)

Several classes, with the cross-entropy ce = -log p_t and the weight w_y of the true class:

    FL = w_y q^gamma ce,   dFL/dce = w_y q^gamma (gamma p_t ce / q + 1),   q = 1 - p_t          (4)

A soft label gives each class a share y_c; in the binary form the positive has y, the negative 1 - y. Its loss
is the mean of the hard labels' losses:

    FL = sum_c y_c FL(p_c)                                                                      (5)

At gamma = 0 this is cross-entropy with soft targets; with y = (1 - e) onehot + e / C it is label smoothing.
For gamma > 0 it is smallest at a p closer to uniform than y, and so is the mean loss of hard labels drawn
with the shares y: the outputs are no estimates of probability. In the binary form, with s_y(p) the slope with
respect to the logit for label y, the share of positives for which p is the best answer is

    eta(p) = s_0(p) / (s_0(p) - s_1(p))                                                         (6)

Keras' CategoricalFocalCrossentropy and kornia's binary form have (5). Two others differ from it where y is
between 0 and 1: torchvision mixes the two p_t in place of the two losses, and Quality Focal Loss (Li et al.
2020) is ``|y - p|^gamma`` times the cross-entropy.

Nothing here is the logarithm or the negative power of a number that can round to 0, so value and gradient are
finite at any finite logit. Nor is anything the difference of 1 and a number that can round to 1: ce is
log(1 + e^z), with z the log-odds against the true class, and q is -expm1(-ce) or the sum of the others' p. So
an example that is nearly certain keeps all digits of its loss.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equations (4) and (5), our (1). There
the sum of the losses is divided by the number of positives, and training starts from a last bias of
-log((1 - pi) / pi), pi = 0.01, so that the many negatives are easy from the first step on.
Shapes: B batch, T tokens, C classes.
"""

from tricks_lib.focal_loss.binary import BinaryFocalLoss, binary_focal_loss
from tricks_lib.focal_loss.classes import FocalLoss, focal_loss

__all__ = ["binary_focal_loss", "focal_loss", "BinaryFocalLoss", "FocalLoss"]
