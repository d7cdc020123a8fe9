import torch

from tests.benchmarks.row import Row
from tricks_lib.ema import EMA


class Circulating:
    """The snippet: a dict, two temporaries and a copy for each parameter."""

    def __init__(self, model, decay):
        self.model, self.decay = model, decay
        self.shadow = {
            name: param.data.clone() for name, param in model.named_parameters() if param.requires_grad
        }

    def update(self):
        for name, param in self.model.named_parameters():
            if param.requires_grad:
                new_average = (1.0 - self.decay) * param.data + self.decay * self.shadow[name]
                self.shadow[name] = new_average.clone()


def make(device):
    from timm.utils import ModelEmaV3
    from torch_ema import ExponentialMovingAverage
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig()).to(device)  # 110 M parameters
    ema, circulating = EMA(model), Circulating(model, 0.999)
    timm, torch_ema = (
        ModelEmaV3(model, decay=0.999),
        ExponentialMovingAverage(model.parameters(), decay=0.999),
    )
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    shadow, weights = (
        [value.detach().clone() for value in model.parameters()],
        [value.detach() for value in model.parameters()],
    )

    def limit():
        torch._foreach_add_(shadow, weights, alpha=1e-9)

    peers = {
        "circulating snippet": circulating.update,
        "torch_ema": torch_ema.update,
        "timm ModelEmaV3": lambda: timm.update(model),
        "torch swa_utils": lambda: averaged.update_parameters(model),
        "add_ of the same numbers": limit,
    }
    return ema.update, peers, {"add_ of the same numbers": limit}


def make_on_the_cpu(device):
    """The average of weights on a GPU, in the memory of the machine."""
    from timm.utils import ModelEmaV3
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig()).to(device)
    ema, timm = EMA(model, device="cpu"), ModelEmaV3(model, decay=0.999, device="cpu")
    weights = [value.detach() for value in model.parameters()]
    shadow = [value.cpu().clone() for value in weights]

    def limit():
        torch._foreach_add_(shadow, [value.cpu() for value in weights], alpha=1e-9)

    return ema.update, {"timm ModelEmaV3": lambda: timm.update(model)}, {"a copy and add_": limit}


# The limit: 12 bytes a parameter, as an in-place addition moves them; 85 % of its bandwidth is a ratio of 1 /
# 0.85.
BARS = {
    "circulating snippet": 0.30,
    "timm ModelEmaV3": 1.05,
    "torch swa_utils": 1.05,
    "add_ of the same numbers": 1.18,
}
ROWS = [
    Row("EMA.update", "110 M parameters", make, BARS, {"torch_ema": "torch-ema", "timm ModelEmaV3": "timm"}),
    Row(
        'EMA.update, device="cpu"',
        "110 M parameters",
        make_on_the_cpu,
        {"timm ModelEmaV3": 1.05},
        {"timm ModelEmaV3": "timm"},
    ),
]
