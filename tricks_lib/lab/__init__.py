"""Demo equipment of the book: profiles, models, tasks, one training loop, experiments and figures.

``setup()`` is what the first cell of every chapter calls.
"""

from tricks_lib._extras import need

need("lab", "accelerate", "bokeh", "datasets", "joblib", "matplotlib", "pandas", "scipy", "sklearn", "tqdm")

from tricks_lib.lab import compare  # noqa: E402
from tricks_lib.lab.profiles import device, profile, setup  # noqa: E402

__all__ = ["compare", "device", "profile", "setup"]
