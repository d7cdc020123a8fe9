import torch

from tests.benchmarks.row import Row
from tricks_lib.decoding import (
    beam_search,
    greedy_search,
    min_p_filter,
    top_n_sigma_filter,
    top_p_filter,
)

T, NEW, BEAMS, V = 16, 64, 4, 50257

# What "every distribution" means for the filters: from all mass on one token to all tokens alike.
DISTRIBUTIONS = {
    "peaked": lambda rows: torch.randn(rows, V) + 20 * (torch.arange(V) == 7),
    "zipf": lambda rows: (
        -1.1 * torch.arange(1, V + 1).float().log()[torch.stack([torch.randperm(V) for _ in range(rows)])]
    ),
    "normal": lambda rows: 3 * torch.randn(rows, V),
    "flat": lambda rows: 0.1 * torch.randn(rows, V),
    "two values": lambda rows: (torch.rand(rows, V) < 0.3).float(),
    "uniform": lambda rows: torch.zeros(rows, V),
}


def snippet(model, input_ids, steps=NEW):
    """The circulating loop (Tunstall et al., chapter 5): every step runs the model on the whole prefix,
    without a cache.
    """
    with torch.no_grad():
        for _ in range(steps):
            next_token_logits = model(input_ids=input_ids, use_cache=False).logits[:, -1, :]
            input_ids = torch.cat([input_ids, next_token_logits.argmax(dim=-1, keepdim=True)], dim=-1)
    return input_ids


def mini_gpt2(device, batch):
    """A model of mini_gpt2's shape, which never ends a text, and prompts for it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=8192,
        n_embd=192,
        n_layer=4,
        n_head=3,
        n_positions=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config).eval().to(device), torch.randint(8192, (batch, T), device=device)


def passes(model, sequences):
    """The model's passes alone: the prompt, then one token at a time with the cache, all tokens known."""
    with torch.no_grad():
        cache = model(input_ids=sequences[:, :T], use_cache=True).past_key_values
        for t in range(T, T + NEW - 1):
            model(input_ids=sequences[:, t : t + 1], past_key_values=cache, use_cache=True)


def greedy(batch):
    def make(device):
        model, input_ids = mini_gpt2(device, batch)
        mask = torch.ones_like(input_ids)
        sequences = greedy_search(model, input_ids, NEW, attention_mask=mask)
        peers = {
            "snippet without cache": lambda: snippet(model, input_ids),
            "transformers generate": lambda: model.generate(
                input_ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False
            ),
        }
        return (
            lambda: greedy_search(model, input_ids, NEW, attention_mask=mask),
            peers,
            {"the model's passes alone": lambda: passes(model, sequences)},
        )

    return make


def beams(device):
    model, input_ids = mini_gpt2(device, 1)
    mask = torch.ones_like(input_ids)
    sequences = torch.randint(8192, (BEAMS, T + NEW), device=device)
    peers = {
        "transformers generate": lambda: model.generate(
            input_ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, num_beams=BEAMS
        )
    }
    return (
        lambda: beam_search(model, input_ids, NEW, num_beams=BEAMS, attention_mask=mask),
        peers,
        {"the model's passes alone": lambda: passes(model, sequences)},
    )


def penalised(device):
    model, input_ids = mini_gpt2(device, 1)
    shared = {"attention_mask": torch.ones_like(input_ids), "max_new_tokens": NEW, "repetition_penalty": 1.3}
    peers = {"transformers generate": lambda: model.generate(input_ids, do_sample=False, **shared)}
    sequences = greedy_search(model, input_ids, **shared)
    return (
        lambda: greedy_search(model, input_ids, **shared),
        peers,
        {"the model's passes alone": lambda: passes(model, sequences)},
    )


def top_n_sigma(device):
    """The peer is the formula, as its authors write it."""
    torch.manual_seed(0)
    logits = DISTRIBUTIONS["normal"](1).to(device)

    def formula():
        border = logits.amax(dim=-1, keepdim=True) - logits.std(dim=-1, keepdim=True)
        return logits.masked_fill(logits < border, float("-inf"))

    return (
        lambda: top_n_sigma_filter(logits, 1.0),
        {"the formula": formula},
        {"one copy of the logits": logits.clone},
    )


def a_filter(ours, warper, value, name):
    def make(device):
        from transformers.generation import logits_process

        torch.manual_seed(0)
        logits, theirs = DISTRIBUTIONS[name](1).to(device), getattr(logits_process, warper)(value)
        return (
            lambda: ours(logits, value),
            {f"transformers {warper}": lambda: theirs(None, logits)},
            {"one copy of the logits": logits.clone},
        )

    return make


def in_order(left):
    """Which of equal tokens go is free."""
    return left.sort().values


ROWS = [
    Row(
        "greedy batch 1",
        f"{NEW} new, 4 layers of 192",
        greedy(1),
        {"snippet without cache": 0.40, "transformers generate": 1.0},
    ),
    Row(
        "greedy batch 8",
        f"{NEW} new, 4 layers of 192",
        greedy(8),
        {"snippet without cache": 0.20, "transformers generate": 1.0},
    ),
    Row("greedy, repetition penalty", f"{NEW} new, 4 layers of 192", penalised),
    Row("beam search, 4 beams", f"{NEW} new, 4 layers of 192", beams),
    Row("top_n_sigma normal", f"1x{V}", top_n_sigma, same=in_order),
    *(
        Row(
            f"top_p {name}",
            f"1x{V}",
            a_filter(top_p_filter, "TopPLogitsWarper", 0.9, name),
            {"transformers TopPLogitsWarper": 1.0},
            same=in_order,
        )
        for name in DISTRIBUTIONS
    ),
    *(
        Row(
            f"min_p {name}",
            f"1x{V}",
            a_filter(min_p_filter, "MinPLogitsWarper", 0.05, name),
            {"transformers MinPLogitsWarper": 0.5},
            same=in_order,
        )
        for name in DISTRIBUTIONS
    ),
]
