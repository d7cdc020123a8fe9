"""Fine-tuning tricks for transformers: one module a trick, each a chapter of the book.

Import the module you need, ``from tricks_lib.mean_pooling import mean_pool``; nothing is imported here,
so that a loss costs you torch and no more.
"""

__version__ = "0.2.0"
