"""What tests of scripts share."""

import pytest

from unlearn_jax.data import DATASETS


@pytest.fixture(autouse=True)
def _data_sets_as_they_were():
    """Scripts may make data sets of their own known by name."""
    before = dict(DATASETS)
    yield
    for name in set(DATASETS) - set(before):
        del DATASETS[name]
