"""What the package's classifiers share: an encoder, dropout, a linear head, and what tools ask of a model.

``transformers.Trainer``, PEFT and NEFTune ask a model for its config, its input embeddings and gradient
checkpointing; :class:`EncoderClassifier` answers with those of its encoder.

Shapes: B batch, T tokens, H hidden, C classes.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tricks_lib._checks import require, tensor
from tricks_lib._folder import drop_second_names, fill_second_names, load, save_config, save_weights
from tricks_lib._head import classification_head, classification_loss


class EncoderClassifier(nn.Module):
    """Base of the classifiers. A subclass makes one vector of a text in its ``forward``, from what
    :meth:`encode` gives, and ends in :meth:`classify`.

    Args:
        encoder: a Hugging Face encoder. Of an encoder-decoder model (BART, T5) the encoder is taken,
            ``get_encoder()``.
        num_labels: C; with 1 the task is regression. Also set as ``config.num_labels``.
        dropout: on the text's vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.
        head_bias: initial bias of the head: one number, or C of them.
        vectors: number of encoder-sized vectors that a text's vector is made of.
    """

    # tells transformers.Trainer that the loss is a plain mean, to be scaled under accumulation
    accepts_loss_kwargs = False
    # names of the subclass's own constructor arguments; each is an attribute of the same name
    settings: tuple[str, ...] = ()
    encoder: Any  # of transformers: a module with a config and get_input_embeddings

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        dropout: float | None = None,
        head_bias: float | Sequence[float] | Tensor | None = None,
        vectors: int = 1,
    ):
        super().__init__()
        self.encoder = without_decoder(encoder)
        self.dropout, self.classifier = classification_head(
            self.encoder, num_labels, dropout, vectors, head_bias
        )
        self.config.num_labels = self.classifier.out_features
        self.register_state_dict_post_hook(drop_second_names)
        self.register_load_state_dict_pre_hook(fill_second_names)

    def encode(self, input_ids, attention_mask, **inputs):
        """Run the encoder on what is given; what is ``None`` is not passed on.

        Returns:
            mask (B, T), ones without one, and the encoder's output.

        Raises:
            ValueError: several texts are packed into one row.
            TypeError: neither ids nor ``inputs_embeds`` are given.
        """
        tokens = input_ids if input_ids is not None else inputs.get("inputs_embeds")
        if tokens is None:
            raise TypeError("input_ids: None given, a tensor (B, T) is accepted, or inputs_embeds (B, T, H)")
        if attention_mask is None:
            attention_mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        refuse_packed(attention_mask, inputs.get("position_ids"))
        inputs |= {"input_ids": input_ids, "attention_mask": attention_mask}
        return attention_mask, self.run_encoder(**inputs)

    def run_encoder(self, **inputs):
        """The encoder's output, never a tuple; inputs that are ``None`` are not passed on."""
        # an encoder of one's own may not know the keyword
        inputs["return_dict"] = None if getattr(self.config, "return_dict", True) else True
        return self.encoder(**{name: value for name, value in inputs.items() if value is not None})

    def classify(
        self,
        vectors: Tensor,
        labels: Tensor | None,
        states=None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ):
        """Logits and loss of the texts' vectors.

        Args:
            vectors: (B, k*H).
            labels: as :func:`tricks_lib.mean_pooling.classification_loss`, or None.
            states: the encoder's output.
            output_hidden_states, output_attentions: give those of ``states`` too.
            return_dict: False gives a tuple.

        Returns:
            ``transformers.modeling_outputs.SequenceClassifierOutput`` with logits (B, C).
        """
        from transformers.modeling_outputs import SequenceClassifierOutput

        logits = self.classifier(self.dropout(vectors))  # (B, C)
        output = SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels),
            logits=logits,
            hidden_states=states.hidden_states if output_hidden_states else None,
            attentions=states.attentions if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output

    # ---------------------------------------------------------------- what tools ask of a model

    @property
    def config(self):
        """The encoder's own config: what a tool sets here reaches the encoder."""
        return self.encoder.config

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's input embeddings."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's input embeddings."""
        self.encoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> None:
        """None: the head predicts classes, not tokens."""

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether the encoder recomputes its activations in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.encoder.modules())

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None, **options):
        """Recompute the encoder's activations in the backward pass: less memory, about a third more time."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def gradient_checkpointing_disable(self):
        """Keep the encoder's activations again."""
        self.activation_checkpointing_disable()

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: dict | None = None, **options):
        """The newer name in transformers for :meth:`gradient_checkpointing_enable`."""
        kind = self._checkpointing()
        enable = getattr(self.encoder, f"{kind}_checkpointing_enable")
        enable(**{f"{kind}_checkpointing_kwargs": activation_checkpointing_kwargs}, **options)

    def activation_checkpointing_disable(self):
        """The newer name in transformers for :meth:`gradient_checkpointing_disable`."""
        getattr(self.encoder, f"{self._checkpointing()}_checkpointing_disable")()

    def _checkpointing(self) -> str:
        newer = hasattr(self.encoder, "activation_checkpointing_enable")
        return "activation" if newer else "gradient"

    # ---------------------------------------------------------------- saving and loading

    def save_pretrained(self, folder: str | os.PathLike, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write ``config.json`` (the classifier's arguments, the encoder's config) and ``model.safetensors``.

        Args:
            folder: is made if it is not there.
            state_dict: weights to write in place of the model's own, e.g. averaged ones.
        """
        self.save_config(folder)
        save_weights(folder, self.state_dict() if state_dict is None else state_dict)

    def save_config(self, folder: str | os.PathLike) -> None:
        """Write ``config.json`` alone: with the weights that a Trainer has saved it can be loaded."""
        own = {name: getattr(self, name) for name in self.settings}
        save_config(
            self, folder, {"num_labels": self.classifier.out_features, "dropout": self.dropout.p, **own}
        )

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, encoder: nn.Module | None = None):
        """Load what :meth:`save_pretrained` or a ``TricksTrainer`` wrote.

        Args:
            folder: a local one.
            encoder: an encoder to load the weights into. Needed where the saved one is not a class of
                transformers, or was changed after it was built (layers cut, adapters added).

        Returns:
            the classifier, in evaluation mode, on the CPU, in the dtypes that were saved.

        Raises:
            ValueError: ``folder`` is not such a folder or holds another class; the weights do not fit the
                encoder.
        """
        return load(cls, folder, encoder)


def without_decoder(encoder: Any) -> nn.Module:
    """The encoder of an encoder-decoder model; any other module as it is."""
    whole = getattr(encoder, "base_model", encoder)
    both = all(isinstance(getattr(whole, part, None), nn.Module) for part in ("encoder", "decoder"))
    return encoder.get_encoder() if both else encoder


def refuse_packed(attention_mask: Tensor, position_ids: Tensor | None) -> None:
    """Raise where positions start again within a row: its texts would be read as one."""
    if position_ids is None:
        return
    tensor("position_ids", position_ids)
    keep = attention_mask.bool()
    back = (position_ids[..., 1:] < position_ids[..., :-1]) & keep[:, 1:] & keep[:, :-1]
    require(
        ~back.any(),
        "position_ids: positions {} given that start again within a row; one text per row is accepted, not "
        "several packed into one",
        position_ids,
    )
