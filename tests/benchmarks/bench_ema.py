import copy

import torch

from tests.benchmarks.row import Row
from tricks_lib.ema import EMA


class Circulating:
    """The snippet: a dict, two temporaries and a copy for each parameter."""

    def __init__(self, model, decay):
        self.model, self.decay = model, decay
        self.shadow = {name: param.data.clone() for name, param in model.named_parameters() if param.requires_grad}

    def update(self):
        for name, param in self.model.named_parameters():
            if param.requires_grad:
                new_average = (1.0 - self.decay) * param.data + self.decay * self.shadow[name]
                self.shadow[name] = new_average.clone()


def timm_v3(average, model, weight):
    """timm, utils/model_ema.py, ``ModelEmaV3.apply_update_`` with ``foreach``."""
    with torch.no_grad():
        shadows, values = [], []
        for shadow, value in zip(average.state_dict().values(), model.state_dict().values()):
            if shadow.is_floating_point():
                shadows.append(shadow)
                values.append(value)
            else:
                shadow.copy_(value)
        torch._foreach_lerp_(shadows, values, weight=weight)


def make(device):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig()).to(device)  # 110 M parameters
    shadow = copy.deepcopy(model)  # the memory that the peers average into
    ema, circulating = EMA(model), Circulating(model, 0.999)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999))
    flat = [value.detach() for value in shadow.parameters()], [value.detach() for value in model.parameters()]
    return ema.update, {
        "circulating snippet": circulating.update,
        "timm ModelEmaV3": lambda: timm_v3(shadow, model, 0.001),
        "torch swa_utils": lambda: averaged.update_parameters(model),
        "add_ of the same numbers": lambda: torch._foreach_add_(*flat, alpha=1e-9),
    }


# The limit: 12 bytes a parameter, as an in-place addition moves them; 85 % of its bandwidth is a ratio of 1 / 0.85.
BARS = {"circulating snippet": 0.30, "timm ModelEmaV3": 1.05, "torch swa_utils": 1.05, "add_ of the same numbers": 1.18}
ROWS = [Row("EMA.update", "110 M parameters", make, BARS)]
