"""Texts longer than the encoder's window: segments linked by memory, sliding windows, head and tail. One file
an idea:

    cutting    a batch of documents cut into segments, or down to head and tail
    memory     XLNet over segments, linked by its memory
    windows    any other encoder over overlapping windows
    freezing   only the last layers are trained

XLNet reads a document as segments of L tokens. Layer l of segment s attends to its own input h_s and, before
it, to the memory m_s: the last M inputs that this layer saw in earlier segments, without gradient,

    m_s = last M of stop_gradient([m_(s-1); h_(s-1)])                                           (1)
    layer l: queries h_s, keys and values [m_s; h_s]

With M = L the states of layer l depend on the l L tokens before their segment; for n layers

    reach = n L                                                                                 (2)

The document's vector is the mean or maximum of all its tokens' last states. Nothing masks the memory, so
padding must never enter it: tokens move to the front of their row, and padding falls behind a document's last
token. No gradient flows from one segment to the next, and the paper's authors did not use the memory in
fine-tuning.

Any other encoder reads overlapping windows, each by itself. A document of T tokens has, at window length W
and stride D,

    1 + ceil(max(0, T - W) / D)                                                                 (3)

windows; of their vectors v_w the mean, the maximum, or

    v = sum_w a_w v_w,   a = softmax_w(q . tanh(U v_w + b))                                     (4)

The baseline to beat costs one window: the document's first tokens and its last. In evaluation the peak of
memory depends on the length of a segment or window, not of the document; in training it grows with the
document.

Sources: (1), (2) Yang et al., "XLNet", NeurIPS 2019, section 2.4, after Dai et al., "Transformer-XL", ACL
2019, section 3.2; (4) Yang et al., "Hierarchical Attention Networks", NAACL 2016, equations 8 to 10, over
windows in place of sentences; head and tail: Sun et al., "How to Fine-Tune BERT for Text Classification?",
CCL 2019, "dealing with long texts".
Shapes: B documents, T tokens, L segment, M memory, S segments or windows of a document, N windows of a batch,
H hidden, C classes.
"""

from tricks_lib.xlnet_long_text.cutting import split_into_segments, truncate_head_tail
from tricks_lib.xlnet_long_text.freezing import freeze_all_but_last
from tricks_lib.xlnet_long_text.memory import XLNetLongClassifier
from tricks_lib.xlnet_long_text.windows import SlidingWindowClassifier

__all__ = [
    "split_into_segments",
    "truncate_head_tail",
    "freeze_all_but_last",
    "XLNetLongClassifier",
    "SlidingWindowClassifier",
]
