"""The book's experiments: one module a trick, each with a list ``EXPERIMENTS``, and the comparisons of the
table of evidence in ``COMPARISONS``.
"""
