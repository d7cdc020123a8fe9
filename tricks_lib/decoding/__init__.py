"""Decoding: from next-token probabilities to text. One idea per file:

    prompt       what all modes accept
    options      the keyword arguments of all modes, and what a generation config asks for
    prepared     what generate prepares for a mode
    feed         what the model sees in each step
    run          rows that grow and the next token's logits: what all modes share
    streaming    tokens handed on as they come
    filters      top-k, top-p, min-p, typical, eta, top-h
    sigma        top-n-sigma
    warpers      the order of temperature and filters
    ngrams       no n-gram twice
    one_token    greedy search and sampling
    beam         beam search and diverse beam search
    hypotheses   what a search over beams keeps
    contrastive  contrastive search
    score        the log-probability of a sequence, the table of next tokens

The files' equations share one numbering, (1) to (14), which is the chapter's. Every mode is a function
``mode(model, input_ids, max_new_tokens, ...) -> (B, T + new)`` for decoder-only models of transformers,
prompts padded on the left, and runs under ``generate`` as well:

    model.generate(**prompt, max_new_tokens=40, custom_generate=lambda model, input_ids, **given:
                   contrastive_search(model, input_ids, penalty_alpha=0.6, top_k=4, **given))

From transformers 4.57 on, ``generate(..., custom_generate=contrastive_search, penalty_alpha=0.6, top_k=4)``
does too, but then warns of a default length: it has handed ``max_new_tokens`` on and forgotten it.
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
from tricks_lib.decoding.options import Options
from tricks_lib.decoding.score import next_token_table, sequence_log_prob
from tricks_lib.decoding.sigma import top_n_sigma_filter

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
    "top_n_sigma_filter",
    "block_repeated_ngrams",
]
