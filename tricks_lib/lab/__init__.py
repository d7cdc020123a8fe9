"""Demo equipment of the book: profiles, models, tasks, one training loop, experiments and figures.

``setup()`` is what the first cell of every chapter calls.
"""

from tricks_lib.lab import compare
from tricks_lib.lab.profiles import device, profile, setup

__all__ = ["compare", "device", "profile", "setup"]
