"""What does a decoding mode write? Its log-probability under the model, its repetitions, its variety, beside
the text that people wrote there.

Nothing is trained and nothing is tuned: each mode has the parameters it is usually shown with. The demo of
the chapter and the book's table of evidence have the same modes.
Shapes: B texts, P tokens of the prompt, N new tokens.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from tricks_lib.lab import models, plots
from tricks_lib.lab.compare.kinds import writing
from tricks_lib.lab.compare.kinds.writing import WriteArm

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
ARMS = {name: {"mode": "sample", **arm.settings} for name, arm in MODES.items()}  # of writing.write
PEOPLE, BLACK = "people", "#222222"


def measures(model, sequences, prompt_length: int) -> dict[str, float]:
    """Mean log-probability per token, in nats, ``distinct_2`` and ``repetition`` of the continuations of
    ``sequences`` (B, P + N); see :mod:`tricks_lib.lab.compare.kinds.writing`.
    """
    log_p = writing.scored(model, sequences, prompt_length)
    return writing.beside(log_p, sequences[:, prompt_length:].tolist())


def picture(rows: dict[str, dict[str, list]]):
    """Log-probability, repetition and variety, a line for each arm, dashed where text by people lies: dots
    are means over seeds, bars one standard deviation; searches blue, sampling orange, people black.

    Args:
        rows: arm -> measure -> one number a seed; ``PEOPLE`` is among the arms.
    """
    columns = {
        "log-probability\nper token (nats)": lambda m: np.array(m["log_prob"]),
        "repeated\n3-grams (%)": lambda m: 100 * np.array(m["repetition"]),
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


# ---- The book's table of evidence ----


def shakespeare() -> writing.WriteComparison:
    name, source = "decoding/en_tinyshakespeare", writing.Text("en_tinyshakespeare")
    training = {"rows": {}, "unit": "new tokens", "prompt": source.prompt}
    return writing.WriteComparison(
        name, source, "SmolLM2-135M-Instruct", MODES, "log_prob_gap", training, (), source.new, (),
        command=f"python -m tricks_lib.lab run {name}",
    )  # fmt: skip


COMPARISONS = {"decoding/en_tinyshakespeare": shakespeare}
