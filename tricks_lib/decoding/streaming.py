"""Tokens handed on as they come: to a function, or to a streamer of transformers.

A streamer has ``put(tokens)`` and ``end()``, which says that no more will come: without it the last word
stays in the streamer and a reader in another thread waits for ever.
"""

import inspect
from typing import Any

from torch import Tensor


class Stream:
    """Receives the new tokens (B,) of each step; as a context, it ends its streamer whatever happens.

    Args:
        on_token: a function, or a streamer's ``put``, or None. streamer: a streamer, or None. prompt: (B, T),
            put into ``streamer`` first, as ``generate`` does, or None where ``generate`` has done so.
    """

    def __init__(self, on_token, streamer, rows: int, prompt: Tensor | None):
        if on_token is not None and not callable(on_token):
            raise TypeError(f"on_token: {type(on_token).__name__} given, a callable is accepted")
        if streamer is not None and not _is_streamer(streamer):
            raise ValueError(
                f"streamer: {type(streamer).__name__} given, an object with put() and end() is accepted"
            )
        self.name = "streamer" if on_token is None else "on_token"
        owner: Any = getattr(on_token, "__self__", None)
        if streamer is None and _is_streamer(owner) and on_token == owner.put:
            streamer, on_token = owner, None
            prompt = prompt if getattr(owner, "skip_prompt", False) else None  # its first put is skipped
        if rows > 1 and streamer is not None and _writes_one_text(streamer):
            raise ValueError(
                f"{self.name}: a {type(streamer).__name__}, which writes one text, given with {rows} rows; "
                f"one row is accepted"
            )
        self.on_token, self.streamer, self.prompt = on_token, streamer, prompt

    def __bool__(self) -> bool:
        return self.on_token is not None or self.streamer is not None

    def __enter__(self):
        if self.streamer is not None and self.prompt is not None:
            self.streamer.put(self.prompt.cpu())
        return self

    def put(self, tokens: Tensor) -> None:
        if self.streamer is not None:
            self.streamer.put(tokens.cpu())
        if self.on_token is not None:
            self.on_token(tokens)

    def __exit__(self, *error) -> None:
        if self.streamer is not None:
            self.streamer.end()


def _is_streamer(value) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("put", "end"))


def _writes_one_text(streamer) -> bool:
    from transformers import TextStreamer

    return isinstance(streamer, TextStreamer)


def streamer_of_generate():
    """The streamer of the ``generate`` under which this runs, or None.

    transformers 5 puts the prompt into it and then does not hand it to a ``custom_generate`` function, so it
    is read where it is: among the variables of the call.
    """
    from transformers import GenerationMixin

    generate, frame = inspect.unwrap(GenerationMixin.generate).__code__, inspect.currentframe()
    while frame is not None and frame.f_code is not generate:
        frame = frame.f_back
    return frame.f_locals.get("streamer") if frame is not None else None
