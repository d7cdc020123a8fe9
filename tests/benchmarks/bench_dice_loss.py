import torch
import torch.nn.functional as F

from tests.benchmarks.row import Row
from tricks_lib.dice_loss import DiceLoss


def monai_formula(logits, one_hot, smooth=1.0):
    """MONAI 1.6, losses/dice.py, DiceLoss(softmax=True, batch=True, smooth_nr=1, smooth_dr=1), written out."""
    p = torch.softmax(logits, 1)
    tp = torch.sum(p * one_hot, dim=0)
    fp = (torch.sum(p, dim=0) - tp) * 0.5
    fn = (torch.sum(one_hot, dim=0) - tp) * 0.5
    return torch.mean(1 - (2 * tp + smooth) / (2 * (tp + fp + fn) + smooth))


def monai_formula_with_classes(logits, labels):
    """The same with to_onehot_y=True: monai/networks/utils.py, one_hot, written out."""
    one_hot = torch.zeros_like(logits).scatter_(dim=1, index=labels.unsqueeze(1).long(), value=1)
    return monai_formula(logits, one_hot)


def flattened_snippet(logits, one_hot, smooth=1.0):
    """The widely known form, which is DiceLoss(reduction="micro", activation="sigmoid")."""
    p, y = torch.sigmoid(logits).view(-1), one_hot.view(-1)
    return 1 - (2.0 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def make(device, ours, peers, one_hot):
    torch.manual_seed(0)
    logits = torch.randn(8192, 20, device=device, requires_grad=True)
    labels = torch.randint(20, (8192,), device=device)
    if one_hot:
        labels = F.one_hot(labels, 20).float()

    def step(loss):
        def once():
            logits.grad = None
            loss(logits, labels).backward()

        return once

    return step(ours), {name: step(peer) for name, peer in peers.items()}


ROWS = [
    Row("dice_loss", "8192x20, fwd+bwd", lambda d: make(d, DiceLoss(), {"MONAI": monai_formula_with_classes}, one_hot=False), {"MONAI": 0.80}),
    Row("dice_loss, one-hot", "8192x20, fwd+bwd", lambda d: make(d, DiceLoss(), {"MONAI": monai_formula}, one_hot=True)),
    Row("dice_loss, micro", "8192x20, fwd+bwd",
        lambda d: make(d, DiceLoss(reduction="micro", activation="sigmoid"), {"flattened snippet": flattened_snippet}, one_hot=True)),
]  # fmt: skip
