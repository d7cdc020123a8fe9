import torch
import torch.nn.functional as F

from tests.benchmarks.row import Row
from tricks_lib.focal_loss import BinaryFocalLoss, FocalLoss


def torchvision_formula(logits, labels, alpha=0.25, gamma=2.0):
    """torchvision, ops/focal_loss.py, sigmoid_focal_loss with reduction="mean", written out."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    alpha_t = alpha * labels + (1 - alpha) * (1 - labels)
    return (alpha_t * cross_entropy * (1 - p_t) ** gamma).mean()


def kornia_formula(logits, labels, gamma=2.0):
    """kornia, losses/focal.py, focal_loss with alpha=None and reduction="mean", written out with its one_hot (which adds 1e-6)."""
    assert (labels != -100).all()  # as kornia looks; what it does with ignored labels is left out
    one_hot = torch.zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1.0) + 1e-6
    log_p = F.log_softmax(logits, 1)
    return (-torch.pow(1.0 - log_p.exp(), gamma) * log_p * one_hot).mean()


def bert4torch_formula(logits, labels, gamma=2):
    """bert4torch, losses.py, FocalLoss, written out."""
    log_p = F.log_softmax(logits, dim=1)
    return F.nll_loss((1 - torch.exp(log_p)) ** gamma * log_p, labels, ignore_index=-100)


def step(loss, logits, labels):
    def once():
        logits.grad = None
        loss(logits, labels).backward()

    return once


def make_binary(device):
    torch.manual_seed(0)
    logits = torch.randn(4096, 256, device=device, requires_grad=True)
    labels = (torch.rand(4096, 256, device=device) < 0.1).float()
    return step(BinaryFocalLoss(), logits, labels), {"torchvision": step(torchvision_formula, logits, labels)}


def make_classes(device):
    torch.manual_seed(0)
    logits = torch.randn(8192, 128, device=device, requires_grad=True)
    labels = torch.randint(128, (8192,), device=device)
    peers = {"kornia": kornia_formula, "bert4torch": bert4torch_formula, "F.cross_entropy": F.cross_entropy}
    return step(FocalLoss(), logits, labels), {name: step(peer, logits, labels) for name, peer in peers.items()}


ROWS = [
    Row("binary_focal_loss", "4096x256, fwd+bwd", make_binary, {"torchvision": 0.5}),
    Row("focal_loss", "8192x128, fwd+bwd", make_classes, {"kornia": 0.6, "bert4torch": 0.25}),
]
