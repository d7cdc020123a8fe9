"""EMA: evaluate the exponential moving average of the weights, not the weights of the last step.

    average    the average and its place in training: equation (1), evaluation, checkpoints
    schedule   the decay of each step: equations (3) and (4)
    weights    what is averaged, by name, whatever wraps the model
    device     where the average is kept
    state      whether a checkpoint fits

With weights w_n after step n and decay d, the average (here "shadow") starts at the weights given and then
follows

    s_n = d s_(n-1) + (1 - d) w_n = s_(n-1) + (1 - d) (w_n - s_(n-1))                            (1)
    s_n = d^n s_0 + (1 - d) sum_(i=1..n) d^(n-i) w_i                                             (2)

About 1 / (1 - d) steps are averaged: for a run of N steps, d = N / (N + 10) looks back over its last tenth
and keeps a share of about e^-10 of the start, (10) in the chapter. The right side of (1), a linear
interpolation, is what is computed: where the weights rest, it leaves the average at rest, while the left side
drifts away by rounding. With warm-up, step n uses

    d_n = min(d, (1 + n) / (10 + n))                                                             (3)

so that a short training is not averaged with its own start, or the "power" profile

    d_n = min(d, (1 - 1/n)^(gamma + 1))                                                          (4)

by which w_i has a share in proportion to i^gamma: the average looks back over a constant part of the training
however long it becomes, until d sets the limit.

Source: Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992; Tarvainen & Valpola, "Mean teachers", NeurIPS
2017; (3) as in TensorFlow's ExponentialMovingAverage and torch_ema; (4) Karras et al., "Analyzing and
Improving the Training Dynamics of Diffusion Models", CVPR 2024, section 3.1, whose post-hoc reconstruction of
other lengths is not part of this.
"""

from tricks_lib.ema.average import EMA

__all__ = ["EMA"]
