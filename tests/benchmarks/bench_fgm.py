import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks.row import Row
from tests.benchmarks.sides import mini_bert, texts
from tricks_lib.fgm import FGM, FreeLB


class Circulating:
    """The snippet."""

    def __init__(self, model):
        self.model, self.backup = model, {}

    def attack(self, epsilon=1.0, emb_name="emb."):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                self.backup[name] = param.data.clone()
                norm = torch.norm(param.grad)
                if norm != 0 and not torch.isnan(norm):
                    r_at = epsilon * param.grad / norm
                    param.data.add_(r_at)

    def restore(self, emb_name="emb."):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                assert name in self.backup
                param.data = self.backup[name]
        self.backup = {}


def make_attack(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30000, 768), nn.Linear(768, 2)).to(device)
    input_ids, labels = torch.randint(30000, (32, 32), device=device), torch.randint(2, (32,), device=device)
    fgm, circulating = FGM(model), Circulating(model)
    F.cross_entropy(model(input_ids).mean(1), labels).backward()

    def ours():
        fgm.attack()
        fgm.restore()

    def theirs():
        circulating.attack(1.0, "0.weight")
        circulating.restore("0.weight")

    weight, gradient = model[0].weight.detach(), model[0].weight.grad
    rows = input_ids.unique()

    def limit():
        clean = weight[rows]
        weight[rows] = clean + gradient[rows]
        weight[rows] = clean

    return ours, {"circulating snippet": theirs}, {"the rows looked up, moved and put back": limit}


def make_step(device):
    torch.manual_seed(0)
    model = mini_bert(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = texts(device, 16)
    fgm = FGM(model)

    def plain():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    def ours():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        with fgm.perturbed():
            model(**batch).loss.backward()
        optimizer.step()

    def limit():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        model(**batch).loss.backward()
        optimizer.step()

    return ours, {"plain step": plain}, {"two passes and one optimizer step": limit}


K, EPSILON, ALPHA = 3, 1.0, 0.3


def make_freelb(device):
    torch.manual_seed(0)
    model = mini_bert(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = texts(device, 16)
    freelb = FreeLB(model, epsilon=EPSILON, alpha=ALPHA, steps=K)

    def ours():
        optimizer.zero_grad()
        for _ in freelb.passes():
            model(**batch).loss.backward()
        optimizer.step()

    def published():
        """Algorithm 1 written out, as the authors' code has it."""
        optimizer.zero_grad()
        embed = model.get_input_embeddings()
        r = torch.zeros(*batch["input_ids"].shape, embed.embedding_dim, device=device)
        for _ in range(K):
            r.requires_grad_()
            embeds = embed(batch["input_ids"]) + r
            (model(inputs_embeds=embeds, labels=batch["labels"]).loss / K).backward()
            step = ALPHA * r.grad / r.grad.flatten(1).norm(dim=1).clamp(min=1e-8).view(-1, 1, 1)
            r = r.detach() + step
            r = r * (EPSILON / r.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1)
        optimizer.step()

    def limit():
        optimizer.zero_grad()
        for _ in range(K):
            model(**batch).loss.backward()
        optimizer.step()

    return ours, {"the published algorithm": published}, {"three passes and one optimizer step": limit}


ROWS = [
    Row("FGM attack+restore", "30k x 768, batch 32x32", make_attack, {"circulating snippet": 0.10}),
    Row("FGM step", "mini_bert, 16x32, a step", make_step, {"plain step": 2.1}),
    Row("FreeLB step", "mini_bert, 16x32, K = 3", make_freelb, {"the published algorithm": 1.05}),
]
