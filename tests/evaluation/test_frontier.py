"""Which methods have a rank and a place: those that keep the accuracy on the rest."""

from types import SimpleNamespace

import pytest

from unlearn_jax.evaluation.frontier import GATE, passes_gate


class _Scorer:
    """Accuracies in the place of populations."""

    def __init__(self, splits):
        self.splits = splits

    def has(self, split, requests):
        return split in self.splits

    def draws(self, outcome, split, what, requests):
        assert (split, what, requests) == ("rest", "correct", [0, 1])
        return SimpleNamespace(value=outcome)


@pytest.mark.parametrize(
    ("accuracy", "oracle", "passes"),
    [(1.0, 1.0, True), (0.76, 0.8, True), (0.75, 0.8, False), (0.306, 1.0, False), (float("nan"), 0.8, False)],
)
def test_a_method_that_wrecks_the_model_has_no_rank(accuracy, oracle, passes):
    assert GATE == 0.95
    assert passes_gate(_Scorer({"rest"}), accuracy, oracle, [0, 1]) is passes
    assert passes_gate(_Scorer({"test"}), accuracy, oracle, [0, 1])  # nothing to keep
