"""FGM and its relatives: train also on the batch as it looks after a small step of the weights in the worst
direction. One idea per file:

    one_step      FGM, the random direction it has to beat, AWP
    pgd           PGD, several steps
    freelb        FreeLB, which trains on each of several steps
    targets       which parameters are attacked
    perturbation  r itself: of a weight, or of what is looked up in a table

With g the gradient of the loss with respect to the word embeddings E (V, H), one norm over the whole table:

    FGM     r = epsilon g / ||g||                                                                      (1)
    PGD     r <- P(r + alpha g / ||g||) at each step, P the projection into the ball ||r|| <= epsilon     (2)
    AWP     r = epsilon ||W|| g / ||g|| for each weight matrix W                                       (3)
    FreeLB  the steps of (2) from r_0 = 0; the weights w get the mean gradient of all of them:

            1/K sum_(k=0..K-1) dL(E + r_k, w) / dw                                                     (4)

    loss.backward(); attack(): E + r; loss_adversarial.backward(); restore(): E; optimizer.step()

With ``per_example`` r is added not to the table but to what is looked up in it, (T, H) for each example, each
with its own norm. This is (1) as published; the paper also normalises the embeddings (mean 0, variance 1),
which here the encoder's first LayerNorm has to do. The form over the table is the one that circulates.

With ``relative`` each row E_v that has a gradient moves by its own share, ``epsilon ||E_v|| g_v / ||g_v||``,
so that one epsilon suits tables of any scale.

g is the gradient of the last backward pass alone, whatever ``.grad`` has accumulated before: a hook sees it
first. In a batch only some rows of the table occur. If the table is used for look-ups only, which the first
attack finds out, the others have no gradient and FGM leaves them alone; an output projection tied to the
table puts gradient on every row.

Source: FGM: Miyato, Dai & Goodfellow, ICLR 2017, section 3; PGD: Madry et al., ICLR 2018, section 2.1;
AWP: Wu, Xia & Wang, NeurIPS 2020, section 4; FreeLB: Zhu et al., ICLR 2020, algorithm 1 and section 3.3.
Shapes: B batch, T tokens, H hidden, V vocabulary.
"""

from tricks_lib.fgm.freelb import FreeLB
from tricks_lib.fgm.one_step import AWP, FGM, RandomDirection
from tricks_lib.fgm.pgd import PGD

__all__ = ["FGM", "PGD", "AWP", "FreeLB", "RandomDirection"]
