import torch
import torch.nn.functional as F

from tests.benchmarks.row import Row
from tests.benchmarks.sides import mini_bert, step, texts
from tricks_lib.rdrop import bernoulli_kl, rdrop_forward, symmetric_kl


def official_formula(p, q):
    """dropreg/R-Drop, README, without padding; a mean over the rows, where that sums."""
    p_loss = F.kl_div(F.log_softmax(p, dim=-1), F.softmax(q, dim=-1), reduction="none")
    q_loss = F.kl_div(F.log_softmax(q, dim=-1), F.softmax(p, dim=-1), reduction="none")
    return (p_loss.sum() + q_loss.sum()) / 2 / len(p)


def make_kl(device):
    torch.manual_seed(0)
    p = torch.randn(512, 21128, device=device, requires_grad=True)
    q = (p.detach() + 0.3 * torch.randn(512, 21128, device=device)).requires_grad_()

    @torch.no_grad()
    def limit():
        p.exp(), q.exp(), torch.ones_like(p), torch.ones_like(q)

    return (
        step(symmetric_kl, p, q),
        {"official R-Drop": step(official_formula, p, q)},
        {"exp of the logits, two gradients": limit},
    )


def official_formula_of_labels(p, q):
    """The same of each label's two classes, yes and no; a mean over the labels."""
    two = [torch.stack([F.logsigmoid(x), F.logsigmoid(-x)], dim=-1) for x in (p, q)]
    return official_formula(*two) / p.shape[1]


def make_bernoulli(device):
    torch.manual_seed(0)
    p = torch.randn(4096, 256, device=device, requires_grad=True)
    q = (p.detach() + 0.3 * torch.randn(4096, 256, device=device)).requires_grad_()

    @torch.no_grad()
    def limit():
        p.exp(), q.exp(), torch.ones_like(p), torch.ones_like(q)

    return (
        step(bernoulli_kl, p, q),
        {"official R-Drop, two classes a label": step(official_formula_of_labels, p, q)},
        {"exp of the logits, two gradients": limit},
    )


def make_step(device):
    torch.manual_seed(0)
    model = mini_bert(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = texts(device, 4)

    def two_passes():
        first, second = model(**batch), model(**batch)
        return 0.5 * (first.loss + second.loss) + official_formula(first.logits, second.logits)

    def train(loss):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    doubled = {name: torch.cat([value, value]) for name, value in batch.items()}
    peers, limit = (
        {"two passes": lambda: train(two_passes)},
        {"the doubled batch alone": lambda: train(lambda: model(**doubled).loss)},
    )
    return lambda: train(lambda: rdrop_forward(model, batch, 1.0).loss), peers, limit


ROWS = [
    Row("symmetric_kl", "512x21128, fwd+bwd", make_kl, {"official R-Drop": 0.30}),
    Row(
        "bernoulli_kl",
        "4096x256, fwd+bwd",
        make_bernoulli,
        {"official R-Drop, two classes a label": 0.30},
    ),
    Row("rdrop_forward", "mini_bert, 4x32, a step", make_step, {"two passes": 0.85}),
]
