import torch
import torch.nn.functional as F

from tests.benchmarks.row import Row
from tests.benchmarks.sides import step
from tricks_lib.dice_loss import DiceLoss


def flattened_snippet(logits, one_hot, smooth=1.0):
    """The widely known form, which is DiceLoss(reduction="micro", activation="sigmoid")."""
    p, y = torch.sigmoid(logits).view(-1), one_hot.view(-1)
    return 1 - (2.0 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def make(device, ours, name, one_hot, N=8192):
    torch.manual_seed(0)
    logits = torch.randn(N, 20, device=device, requires_grad=True)
    classes = torch.randint(20, (N,), device=device)
    labels = F.one_hot(classes, 20).float() if one_hot else classes
    if name == "MONAI":
        from monai.losses import DiceLoss as DiceLossOfMonai

        loss = DiceLossOfMonai(softmax=True, batch=True, smooth_nr=1, smooth_dr=1, to_onehot_y=not one_hot)
        theirs = loss if one_hot else lambda logits, labels: loss(logits, labels.unsqueeze(1))
    else:
        theirs = flattened_snippet

    @torch.no_grad()
    def limit():
        logits.exp(), torch.ones_like(logits)

    return (
        step(ours, logits, labels),
        {name: step(theirs, logits, labels)},
        {"exp of the logits, one gradient": limit},
    )


ROWS = [
    Row(
        "dice_loss",
        "8192x20, fwd+bwd",
        lambda d: make(d, DiceLoss(), "MONAI", one_hot=False),
        {"MONAI": 0.80},
        {"MONAI": "monai"},
    ),
    Row(
        "dice_loss, 131072 rows",
        "131072x20, fwd+bwd",
        lambda d: make(d, DiceLoss(), "MONAI", one_hot=False, N=131072),
        packages={"MONAI": "monai"},
    ),
    Row(
        "dice_loss, one-hot",
        "8192x20, fwd+bwd",
        lambda d: make(d, DiceLoss(), "MONAI", one_hot=True),
        packages={"MONAI": "monai"},
    ),
    Row(
        "dice_loss, micro",
        "8192x20, fwd+bwd",
        lambda d: make(
            d, DiceLoss(reduction="micro", activation="sigmoid"), "flattened snippet", one_hot=True
        ),
    ),
]
