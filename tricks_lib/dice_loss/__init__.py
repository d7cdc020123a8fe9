"""Dice loss: one minus a soft F1 score, for labels so rare that cross-entropy is content to predict none of
them. One idea per file:

    over_batch      Dice and Tversky, one ratio for each class: equations (2) and (3)
    self_adjusting  example by example: equation (4)
    counts          the counts of equation (1) with their slope (5), in few passes
    matrix          what the losses are given, checked, and the ratio they share

With p_ic the probability of class c for example i and y_ic in {0, 1} its label, count softly, for each class,

    TP_c = sum_i p_ic y_ic,   P_c = sum_i p_ic,   Y_c = sum_i y_ic                              (1)
    Dice_c = (2 TP_c + s) / (P_c + Y_c + s),   loss = mean_c (1 - Dice_c)                       (2)

s smooths the ratio where a class is absent. The micro form adds the counts of all classes up before the
ratio: that is the widely known loss on flattened tensors, in which frequent classes drown the rare ones.
Tversky's index prices false positives P - TP and false negatives Y - TP apart; Dice is its case alpha = beta
= 1/2 with s / 2:

    T_c = (TP_c + s) / (TP_c + alpha (P_c - TP_c) + beta (Y_c - TP_c) + s)                      (3)

The self-adjusting loss of Li et al. is taken example by example, with f = (1 - p)^alpha p in place of p:

    loss_i = 1 - (2 f_i y_i + s) / (f_i + y_i + s)                                              (4)

The slope of Dice, with Z_c = P_c + Y_c + s, is

    dDice_c / dp_ic = (2 y_ic - Dice_c) / Z_c                                                   (5)

Where class c is true with probability q, its mean over y never changes its sign, so p goes to an end:

    p = 1 if q > Dice_c / 2,   p = 0 if q < Dice_c / 2                                          (6)

That is a decision, for s = 0 at half of its own F1 score. The loss (2) of a softmax over two classes also
weighs the Dice of the other class. It decides for class 1 where q is above

    q* = (Dice_1 Z_0 + (2 - Dice_0) Z_1) / (2 (Z_0 + Z_1))                                      (7)

Soft labels, y_ic in [0, 1], are counted by the same products; by (6) p = y does not score 0, and is not the
minimum.

In (4), f grows up to p = 1 / (1 + alpha) and falls to 0 at p = 1. So for a positive example (4) is smallest
at p = 1 / (1 + alpha), and a perfect prediction scores 1 - s / (1 + s), 0.5 at s = 1, for every alpha > 0. A
negative fares worse: there (4) is f / (f + s), which rises up to p = 1 / (1 + alpha) and falls to 0 at p = 1.
A negative that the model confidently takes for a positive scores like a perfect one (0.01 at p = 0.99, alpha
= 1, s = 1), and is pushed further. Keep alpha small; at the default of 0.01 the factor hardly acts. Example
by example no count of a class is left, so (4) is no soft F1 score.

Sources: Milletari et al., "V-Net", 3DV 2016 (Dice as a loss, there with squares in P and Y); Salehi et al.,
"Tversky loss function for image segmentation using 3D fully convolutional deep networks", MLMI 2017, equation
(3); Li et al., "Dice Loss for Data-imbalanced NLP Tasks", ACL 2020, section 3; Lipton et al., "Thresholding
Classifiers to Maximize F1 Score", 2014, for (6).
Shapes: B batch, T tokens, C classes; N = B or B T examples.
"""

from tricks_lib.dice_loss.over_batch import DiceLoss, TverskyLoss, dice_loss, tversky_loss
from tricks_lib.dice_loss.self_adjusting import SelfAdjustingDiceLoss, self_adjusting_dice_loss

__all__ = [
    "dice_loss",
    "tversky_loss",
    "self_adjusting_dice_loss",
    "DiceLoss",
    "TverskyLoss",
    "SelfAdjustingDiceLoss",
]
