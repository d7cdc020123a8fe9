"""Mean pooling: one vector for a text, the average of its tokens' last hidden states.

With mask m_t = 1 for a token and 0 for padding, the mean over the T positions of a row is

    mean = sum_t m_t h_t / max(1, sum_t m_t)                                                    (1)

Decoders, whose later tokens have read more, are pooled with growing weights, 1 to n over the n tokens,

    weighted = sum_t w_t h_t / sum_t w_t,   w_t = m_t sum_{s <= t} m_s                          (2)

or by their last token. Padding must not change any of it: not its amount, not its side, not what the encoder
left there.

Sources: (1) Reimers & Gurevych, "Sentence-BERT", EMNLP 2019, section 3 (MEAN, MAX and CLS strategy);
(2) Muennighoff, "SGPT", 2022, section 4.1.1, equation 2; prompts left out: Su et al., "INSTRUCTOR", ACL 2023.
Shapes: B batch, T tokens, H hidden, C classes.
"""

from tricks_lib._head import classification_head as classification_head
from tricks_lib._head import classification_loss as classification_loss
from tricks_lib.mean_pooling.classifier import MeanPoolingClassifier
from tricks_lib.mean_pooling.masks import exclude_prompt
from tricks_lib.mean_pooling.pools import (
    cls_pool,
    last_token_pool,
    max_pool,
    mean_pool,
    weighted_mean_pool,
)

__all__ = [
    "mean_pool",
    "max_pool",
    "cls_pool",
    "last_token_pool",
    "weighted_mean_pool",
    "exclude_prompt",
    "MeanPoolingClassifier",
]
