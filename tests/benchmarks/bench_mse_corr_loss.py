import torch
from torch import nn

from tests.benchmarks.row import Row
from tricks_lib.mse_corr_loss import MSECorrLoss


def circulating_snippet(predictions, targets, p=1.5):
    """The class MSECorrLoss that circulates, written out."""
    mse = nn.functional.mse_loss(predictions, targets)
    prediction_z = (predictions - predictions.mean(dim=0)) / predictions.std(dim=0)
    target_z = (targets - targets.mean(dim=0)) / targets.std(dim=0)
    return mse + p * (1 - (prediction_z * target_z).mean(dim=0))


def make(device):
    torch.manual_seed(0)
    predictions = torch.randn(65536, device=device, requires_grad=True)
    targets = torch.randn(65536, device=device)

    def step(loss):
        def once():
            predictions.grad = None
            loss(predictions, targets).backward()

        return once

    return (
        step(MSECorrLoss()),
        {"circulating snippet": step(circulating_snippet)},
        {"F.mse_loss": step(nn.functional.mse_loss)},
    )


ROWS = [Row("mse_corr_loss", "65536, fwd+bwd", make)]
