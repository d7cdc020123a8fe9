"""What several rows time."""

import torch


def step(loss, *inputs):
    """Forward and backward of a loss of ``inputs``, of which those that require a gradient get a new one;
    gives the loss.
    """

    def once():
        for x in inputs:
            x.grad = None
        value = loss(*inputs)
        value.backward()
        return value

    return once


def mini_bert(device, **more):
    """A classifier of eight classes with mini_bert's shape, in training mode."""
    from transformers import BertConfig, BertForSequenceClassification

    shape = {
        "vocab_size": 8192,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "num_labels": 8,
    }
    return BertForSequenceClassification(BertConfig(**{**shape, **more})).to(device).train()


def texts(device, B: int, T: int = 32):
    """A batch of that model: random tokens (B, T) and labels (B,)."""
    return {
        "input_ids": torch.randint(8192, (B, T), device=device),
        "labels": torch.randint(8, (B,), device=device),
    }
