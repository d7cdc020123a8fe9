"""The book's experiments: one module a trick, each with a list ``EXPERIMENTS``."""
