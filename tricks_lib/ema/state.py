"""Whether what is given to :meth:`~tricks_lib.ema.EMA.load_state_dict` is a state of this average."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib.ema import schedule
from tricks_lib.ema.weights import same


def checked(state_dict: Mapping, shadow: Mapping[str, Tensor], settings: Mapping) -> dict:
    """The settings in the state, those it lacks from ``settings``, none a NumPy number, which ``torch.load``
    would refuse in the next checkpoint; an error unless the whole state fits.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: {type(state_dict).__name__} given, a mapping is accepted")
    if missing := {"decay", "warmup", "num_updates", "shadow", "buffers"} - set(state_dict):
        raise ValueError(
            f"state_dict: without {', '.join(sorted(missing))} given, what EMA.state_dict() returns is "
            f"accepted"
        )
    count = state_dict["num_updates"]
    number("state_dict", count, 0, accepted="a count of updates, 0 or more,", integer=True)
    settings = {name: state_dict.get(name, value) for name, value in settings.items()}
    settings = {name: v.item() if isinstance(v, np.generic) else v for name, v in settings.items()}
    schedule.check("state_dict: ", **settings)
    for key in ("shadow", "buffers"):
        given = state_dict[key]
        if not isinstance(given, Mapping) or not all(isinstance(value, Tensor) for value in given.values()):
            raise TypeError(
                f"state_dict: under {key} {type(given).__name__} given, a mapping from names to tensors is "
                f"accepted"
            )
    same("state_dict", shadow, state_dict["shadow"])
    return settings
