"""The chapters in profile ``full``, without the hub and without a GPU.

    make test-full                                      all of it, two notebooks at a time
    python -m tests.full [--fake-cuda] [NAME ...]       some notebooks, with a table of their cells

``repositories`` makes ``tiny_models`` and ``small_data``, laid out as on the Hugging Face hub and under the
names that the chapters ask for. ``hub`` serves them on 127.0.0.1. ``runner`` runs every cell of a notebook
against it. ``tokens`` counts, in the notebook's process, what the models read, and says how long a T4 would
have taken. ``fake_cuda`` lets CPU tensors behave as if they lay on a GPU, so that a device mistake shows.

The one size that is cut is the models' width, ``tiny_models.WIDTH``. Depth, vocabularies, the rows and
lengths of the data that the chapters read, and every setting of the chapters are those of a real run on a
GPU, and so is the count of tokens. What a chapter learns here means nothing.
"""
