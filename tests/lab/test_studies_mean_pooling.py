"""The study of pooling: its probe, row by row, against scikit-learn."""

import numpy as np

from tricks_lib.lab.studies import mean_pooling as study


def sets(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 5, size=(120, 4))
    return x[:80], (x[:80, 0] > 3).astype(int), x[80:], (x[80:, 0] + rng.normal(0, 3, 40) > 3).astype(int)


def test_right_says_of_each_row_what_scikit_learn_says():
    from sklearn.linear_model import LogisticRegression

    x, y, x_test, y_test = sets()
    centre, spread = x.mean(0), x.std(0)
    reference = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8).fit((x - centre) / spread, y)
    expected = reference.predict((x_test - centre) / spread) == y_test
    found = study.right(x, y, x_test, y_test, C=0.1)
    assert found.tolist() == expected.tolist() and 0 < found.sum() < 40
    assert study.probe(x, y, x_test, y_test, C=0.1) == found.mean()


def test_a_seed_draws_the_rows_that_are_trained_on():
    x, y, x_test, y_test = sets()
    rows = np.random.default_rng(3).permutation(80)[:40]
    drawn = study.right(x, y, x_test, y_test, seed=3, share=0.5)
    assert drawn.tolist() == study.right(x[rows], y[rows], x_test, y_test).tolist()
