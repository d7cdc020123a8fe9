import torch
import torch.nn.functional as F

from tests.benchmarks.row import Row
from tests.benchmarks.sides import step
from tricks_lib.focal_loss import BinaryFocalLoss, FocalLoss


def make_binary(device):
    from torchvision.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    logits = torch.randn(4096, 256, device=device, requires_grad=True)
    labels = (torch.rand(4096, 256, device=device) < 0.1).float()

    def theirs(logits, labels):
        return sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0, reduction="mean")

    @torch.no_grad()
    def limit():
        logits + labels, logits * labels

    return (
        step(BinaryFocalLoss(), logits, labels),
        {"torchvision": step(theirs, logits, labels)},
        {"x + y and x * y": limit},
    )


def make_soft_binary(device):
    from kornia.losses import binary_focal_loss_with_logits

    torch.manual_seed(0)
    logits = torch.randn(4096, 256, device=device, requires_grad=True)
    labels = torch.rand(4096, 256, device=device)

    def theirs(logits, labels):
        return binary_focal_loss_with_logits(logits, labels, alpha=0.25, gamma=2.0, reduction="mean")

    @torch.no_grad()
    def limit():
        logits + labels, logits * labels

    return (
        step(BinaryFocalLoss(), logits, labels),
        {"kornia": step(theirs, logits, labels)},
        {"x + y and x * y": limit},
    )


def make_soft_classes(device):
    torch.manual_seed(0)
    logits = torch.randn(8192, 128, device=device, requires_grad=True)
    labels = torch.randn(8192, 128, device=device).softmax(1)

    def keras(logits, labels):
        """CategoricalFocalCrossentropy(from_logits=True), written out."""
        p = logits.softmax(1)
        return (-labels * p.log() * (1 - p) ** 2).sum(1).mean()

    plain = step(F.cross_entropy, logits, labels)

    def cross_entropy():
        plain()  # another loss: only its time is compared

    return (
        step(FocalLoss(), logits, labels),
        {"Keras' formula": step(keras, logits, labels), "F.cross_entropy": cross_entropy},
        {"F.cross_entropy": cross_entropy},
    )


def make_classes(device):
    from bert4torch.losses import FocalLoss as FocalLossOfBert4torch
    from kornia.losses import focal_loss as focal_loss_of_kornia

    torch.manual_seed(0)
    logits = torch.randn(8192, 128, device=device, requires_grad=True)
    labels = torch.randint(128, (8192,), device=device)

    def kornia(logits, labels):
        return 128 * focal_loss_of_kornia(
            logits, labels, alpha=None, gamma=2.0, reduction="mean"
        )  # its mean divides by the classes too

    plain = step(F.cross_entropy, logits, labels)

    def cross_entropy():
        plain()  # another loss: only its time is compared

    peers = {
        "kornia": step(kornia, logits, labels),
        "bert4torch": step(FocalLossOfBert4torch(gamma=2), logits, labels),
    }
    return (
        step(FocalLoss(), logits, labels),
        {**peers, "F.cross_entropy": cross_entropy},
        {"F.cross_entropy": cross_entropy},
    )


ROWS = [
    Row(
        "binary_focal_loss",
        "4096x256, fwd+bwd",
        make_binary,
        {"torchvision": 0.5},
        {"torchvision": "torchvision"},
    ),
    Row(
        "binary_focal_loss, soft labels",
        "4096x256, fwd+bwd",
        make_soft_binary,
        packages={"kornia": "kornia"},
    ),
    Row("focal_loss, soft labels", "8192x128, fwd+bwd", make_soft_classes),
    Row(
        "focal_loss",
        "8192x128, fwd+bwd",
        make_classes,
        {"kornia": 0.6, "bert4torch": 0.25},
        {"kornia": "kornia", "bert4torch": "bert4torch"},
    ),
]
