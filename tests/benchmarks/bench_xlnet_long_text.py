import torch

from tests.benchmarks.row import Row
from tricks_lib.xlnet_long_text import XLNetLongClassifier, truncate_head_tail

T, L = 2048, 512


def make(device):
    from transformers import XLNetConfig, XLNetModel

    torch.manual_seed(0)
    # the shape of the book's mini_xlnet
    encoder = XLNetModel(
        XLNetConfig(vocab_size=8192, d_model=192, n_layer=4, n_head=3, d_inner=768, mem_len=L)
    )
    with_memory, without = (XLNetLongClassifier(encoder, 2, L, mem_len=M).eval().to(device) for M in (L, 0))
    input_ids = torch.randint(8192, (1, T), device=device)

    @torch.no_grad()
    def whole():
        """The document in one pass: attention over all T x T pairs."""
        with_memory.classifier(encoder(input_ids, use_mems=False).last_hidden_state.mean(dim=1))

    @torch.no_grad()
    def read(model, ids):
        model(ids)

    peers = {
        "the whole document at once": whole,
        "segments without memory": lambda: read(without, input_ids),
        "head and tail, one segment": lambda: read(without, truncate_head_tail(input_ids, L)),
    }

    @torch.no_grad()
    def limit():
        mems = None
        for segment in input_ids.split(L, dim=1):
            mems = encoder(segment, mems=mems, use_mems=True).mems

    return lambda: read(with_memory, input_ids), peers, {"the encoder's passes alone": limit}


ROWS = [Row("xlnet_long_text", f"{T} tokens, segments of {L}, forward", make)]
