"""R-Drop: two passes of the same batch, with two dropout masks, must agree. One idea per file:

    divergence   how far two passes are apart: equations (1) and (3)
    loss         equation (2), of two passes' logits
    forward      equation (2), of a model and a batch
    dropout      whether there are two masks at all

Dropout makes the network another one at each pass. With logits of two passes, p and q their softmax, y the
labels:

    D(p, q) = 1/2 (KL(p || q) + KL(q || p)) = 1/2 sum_c (p_c - q_c) (log p_c - log q_c)            (1)
    L = 1/2 (CE(p, y) + CE(q, y)) + alpha * mean over examples of D(p, q)                          (2)

Without dropout, in evaluation mode, the passes are equal, D is 0 and (2) is the plain loss. In multi-label
classification CE is the mean binary cross-entropy over examples and classes, and D the mean over both of the
divergence of Bernoulli variables, p and q now being the sigmoid of the logits z and w:

    D(p, q) = 1/2 (KL(p || q) + KL(q || p)) = 1/2 (p - q) (z - w)                                  (3)

For numbers, squared errors take the place of both.

Others normalise otherwise. Their alpha times this factor is ours, for batches of B examples and C classes:

    paper: CE(p) + CE(q) + alpha * mean D                                 1/2
    official BERT: CE(p) + CE(q) + alpha * sum over the batch of D        B/2
    official README, RoBERTa: 1/2 (CE(p) + CE(q)) + alpha * sum of D      B
    bert4torch: 1/2 (CE(p) + CE(q)) + alpha/4 * mean over B and C of 2 D  1/(2 C)

Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021, section 2;
github.com/dropreg/R-Drop.
Shapes: B batch, T tokens, C classes.
"""

from tricks_lib.rdrop.divergence import _equation_1, bernoulli_kl, symmetric_kl  # noqa: F401 (chapter 2)
from tricks_lib.rdrop.forward import RDropOutput, rdrop_forward
from tricks_lib.rdrop.loss import rdrop_loss

__all__ = ["symmetric_kl", "bernoulli_kl", "rdrop_loss", "rdrop_forward", "RDropOutput"]
