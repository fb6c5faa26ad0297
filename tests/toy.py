"""The toy study of `unlearn_jax.testing`, by the name that the tests know it by, and which cases are slow."""

import pytest

from unlearn_jax.testing.toy import *  # noqa: F403
from unlearn_jax.testing.toy import _alone, _draw  # noqa: F401


def some(cases, quick):
    """Cases for `pytest.mark.parametrize`: the first ones by default, what repeats them in the slow tests alone."""
    each = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[pytest.mark.slow] if i >= quick else []) for i, case in enumerate(each)]
