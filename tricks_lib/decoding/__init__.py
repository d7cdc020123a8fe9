"""Decoding: from next-token probabilities to text. One file an idea:

    prompt       what all modes accept
    run          rows that grow, the key-value cache and the next token's logits: what all modes share
    filters      top-k, top-p, min-p, typical, eta, top-h
    ngrams       no n-gram twice
    one_token    greedy search and sampling
    beam         beam search and diverse beam search
    contrastive  contrastive search
    score        the log-probability of a sequence, the table of next tokens

Every mode is a function ``mode(model, input_ids, max_new_tokens, ...) -> (B, T + new)`` for decoder-only
models of transformers, prompts padded on the left, and runs under ``generate`` as well:

    model.generate(**prompt, max_new_tokens=40, custom_generate=lambda model, input_ids, **given:
                   contrastive_search(model, input_ids, penalty_alpha=0.6, top_k=4, **given))

From transformers 4.57 on, ``generate(..., custom_generate=contrastive_search, penalty_alpha=0.6, top_k=4)``
does too,
but then warns of a default length: it has handed ``max_new_tokens`` on and forgotten it.
"""

from tricks_lib.decoding.beam import beam_search, diverse_beam_search
from tricks_lib.decoding.contrastive import contrastive_search
from tricks_lib.decoding.filters import (
    eta_filter,
    min_p_filter,
    top_h_filter,
    top_k_filter,
    top_p_filter,
    typical_filter,
)
from tricks_lib.decoding.ngrams import block_repeated_ngrams
from tricks_lib.decoding.one_token import greedy_search, sample
from tricks_lib.decoding.run import Options
from tricks_lib.decoding.score import next_token_table, sequence_log_prob

__all__ = [
    "greedy_search",
    "sample",
    "beam_search",
    "diverse_beam_search",
    "contrastive_search",
    "sequence_log_prob",
    "next_token_table",
    "Options",
    "top_k_filter",
    "top_p_filter",
    "min_p_filter",
    "typical_filter",
    "eta_filter",
    "top_h_filter",
    "block_repeated_ngrams",
]
