"""What does a decoding mode write? Its log-probability under the model, its repetitions, its variety, its
speed.

Nothing is trained and nothing is tuned: each mode has the parameters it is usually shown with. All modes
continue the same beginnings of held-out documents by the same number of tokens; the text that people wrote
there is one more arm.
Shapes: B texts, P tokens of the prompt, N new tokens.
"""

import functools
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

from tricks_lib import decoding
from tricks_lib.lab import models, plots
from tricks_lib.lab.compare.kinds.writing import (
    Text,
    WriteArm,
    WriteComparison,
    distinct,
    repeated,
    write,
)  # fmt: skip
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.tasks import corpus

PROMPT, NEW, TEXTS = 12, 40, 32  # tokens of a prompt, new tokens, prompts a seed
ARMS = {
    "greedy": {"mode": "greedy_search"},
    "beam, 4": {"mode": "beam_search", "num_beams": 4},
    "beam, 16": {"mode": "beam_search", "num_beams": 16},
    "diverse beam": {
        "mode": "diverse_beam_search",
        "num_beams": 4,
        "num_beam_groups": 4,
        "diversity_penalty": 1.0,
    },
    "contrastive": {"mode": "contrastive_search", "penalty_alpha": 0.6, "top_k": 4},
    "temperature, 0.7": {"mode": "sample", "temperature": 0.7},
    "top-k, 50": {"mode": "sample", "top_k": 50},
    "top-p, 0.95": {"mode": "sample", "top_p": 0.95},
    "min-p, 0.1": {"mode": "sample", "min_p": 0.1},
    "typical, 0.95": {"mode": "sample", "typical_p": 0.95},
    "typical, 0.2": {"mode": "sample", "typical_p": 0.2},
    "plain sampling": {"mode": "sample"},
}
PEOPLE, CORPUS, BLACK = "people", "corpus_en", "#222222"


def measures(model, sequences, prompt_length: int) -> dict[str, float]:
    """Log-probability per token, in nats, and variety of the continuations of ``sequences`` (B, P + N)."""
    rows, scored = sequences[:, prompt_length:].tolist(), {"length_penalty": 1.0, "eos_token_id": []}
    with torch.no_grad():
        log_p = decoding.sequence_log_prob(model, sequences, prompt_length, **scored)  # (B,)
    return {
        "log_prob": log_p.mean().item(),
        "new_3grams": 1 - float(np.mean([repeated(row, 3) for row in rows])),
        "distinct_1": distinct(rows, 1), "distinct_2": distinct(rows, 2), "distinct_3": distinct(rows, 3),
    }  # fmt: skip


def picture(rows: dict[str, dict[str, list]]):
    """Log-probability, repetition and variety, a line for each arm, dashed where text by people lies: dots
    are means over seeds, bars one standard deviation; searches blue, sampling orange, people black.

    Args:
        rows: arm -> measure -> one number a seed; ``PEOPLE`` is among the arms.
    """
    columns = {
        "log-probability\nper token (nats)": lambda m: np.array(m["log_prob"]),
        "repeated\n3-grams (%)": lambda m: 100 * (1 - np.array(m["new_3grams"])),
        "distinct\n2-grams (%)": lambda m: 100 * np.array(m["distinct_2"]),
    }
    arms = sorted(rows, key=lambda arm: np.mean(rows[arm]["log_prob"]))
    fig, panels = plt.subplots(1, 3, figsize=(6.4, 1.2 + 0.33 * len(arms)), sharey=True)
    for ax, (label, column) in zip(panels, columns.items()):
        for y, arm in enumerate(arms):
            x = column(rows[arm])
            spread = {"xerr": x.std(ddof=1)} if len(x) > 1 else {}
            ax.errorbar(x.mean(), y, fmt="o", color=family(arm), markersize=7, elinewidth=1, **spread)
        ax.axvline(column(rows[PEOPLE]).mean(), color=family(PEOPLE), linestyle="--", linewidth=1)
        ax.set_xlabel(label)
        ax.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(arms)), arms)
    for tick, arm in zip(panels[0].get_yticklabels(), arms):
        tick.set_color(family(arm))
    return panels


def family(arm: str) -> str:
    """Colour of an arm."""
    return BLACK if arm == PEOPLE else "#9A6A00" if ARMS[arm]["mode"] == "sample" else plots.BLUE


def speeches() -> list[str]:
    """Text by people: speeches of Shakespeare that the embedded model was not trained on."""
    return (models.ASSETS / "shakespeare" / "speeches.txt").read_text("utf-8").strip().split("\n\n")


def beginnings(tokenizer, texts, length: int) -> torch.Tensor:
    """The first ``length`` tokens of the texts that have as many: (B, length)."""
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([row[:length] for row in rows if len(row) >= length])


class Bigrams(torch.nn.Module):
    """A language model whose next token depends on the last one alone, by a table (V, V) of probabilities:
    small enough to search by hand.
    """

    def __init__(self, table):
        super().__init__()
        from transformers import GPT2Config

        self.config, self.generation_config = GPT2Config(vocab_size=len(table)), None
        self.embedding = torch.nn.Embedding.from_pretrained(torch.as_tensor(table, dtype=torch.float32).log())
        self.eval()

    def get_input_embeddings(self):
        return self.embedding

    def forward(
        self, input_ids, attention_mask=None, past_key_values=None, use_cache=True, output_hidden_states=False
    ):
        from transformers import DynamicCache
        from transformers.modeling_outputs import CausalLMOutputWithPast

        cache = past_key_values if past_key_values is not None else DynamicCache()  # stays empty
        logits = self.embedding(input_ids)  # (B, T, V)
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache, hidden_states=(logits,))


# ---- The recorded experiment ----


@functools.cache
def held_out(model_name: str, data: str):
    """The model, and the beginnings of held-out documents in an order drawn once: (M, PROMPT + NEW)."""
    model, tokenizer = models.load_gpt2(model_name)
    rows = beginnings(tokenizer, corpus(data)[1], PROMPT + NEW)
    return model, rows[torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))]


def run(experiment, settings, seed, split):
    """One arm on the prompts of a seed, no prompt in two seeds; speed in tokens a second of processor
    time.
    """
    model, rows = held_out(experiment.model, experiment.data)
    rows = rows[seed * TEXTS : (seed + 1) * TEXTS]
    if len(rows) < TEXTS:
        raise ValueError(f"seed: {seed} given, the held-out documents last for fewer seeds of {TEXTS} each")
    if settings["mode"] == PEOPLE:
        return measures(model, rows, PROMPT)
    start = time.process_time()
    sequences = write(model, rows[:, :PROMPT], NEW, seed, **settings)
    seconds = time.process_time() - start
    return {**measures(model, sequences, PROMPT), "tokens_per_second": round(TEXTS * NEW / seconds, 1)}


EXPERIMENTS = [
    Experiment(
        trick="decoding",
        task="corpus_en",
        model="mini_gpt2",
        data=CORPUS,
        metric="new_3grams",
        baseline="greedy",
        run=run,
        arms={**ARMS, PEOPLE: {"mode": PEOPLE}},
        seeds=tuple(range(10)),
        setting=(
            f"nothing trained, nothing tuned: {TEXTS} held-out documents a seed, their first {PROMPT} "
            f"tokens continued by {NEW}"
        ),
    ),
]


# ---- The book's table of evidence ----

PLAIN, COOL = "plain sampling", "temperature 0.7"
MODES = {
    PLAIN: WriteArm(),
    "greedy": WriteArm({"mode": "greedy_search"}),
    "beam 4": WriteArm({"mode": "beam_search", "num_beams": 4}, "decoding", "greedy"),
    "beam 16": WriteArm({"mode": "beam_search", "num_beams": 16}, "decoding", "beam 4"),
    "diverse beam": WriteArm(
        {"mode": "diverse_beam_search", "num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 1.0},
        "decoding",
        "beam 4",
    ),
    "contrastive": WriteArm(
        {"mode": "contrastive_search", "penalty_alpha": 0.6, "top_k": 4}, "decoding", "greedy"
    ),
    COOL: WriteArm({"temperature": 0.7}),
    "top-k 50": WriteArm({"top_k": 50}, "decoding", COOL),
    "top-p 0.95": WriteArm({"top_p": 0.95}, "decoding", COOL),
    "min-p 0.1": WriteArm({"min_p": 0.1}, "decoding", COOL),
    "typical 0.95": WriteArm({"typical_p": 0.95}, "decoding", COOL),
    "top-n-sigma 1": WriteArm({"top_n_sigma": 1.0}, "decoding", COOL),
    "repetition penalty 1.1": WriteArm({"repetition_penalty": 1.1}, "decoding", COOL),
}


def shakespeare() -> WriteComparison:
    name, source = "decoding/en_tinyshakespeare", Text("en_tinyshakespeare")
    training = {"rows": {}, "unit": "new tokens", "prompt": source.prompt}
    return WriteComparison(
        name, source, "SmolLM2-135M-Instruct", MODES, "log_prob_gap", training, (), source.new, (),
        command=f"python -m tricks_lib.lab run {name}",
    )  # fmt: skip


COMPARISONS = {"decoding/en_tinyshakespeare": shakespeare}
