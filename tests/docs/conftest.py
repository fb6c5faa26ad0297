"""What tests of pages with Python share."""

import contextlib

import pytest

from unlearn_jax import DATASETS, METHODS, MODELS
from unlearn_jax.evaluation.table import METRICS
from unlearn_jax.remedies import REMEDIES
from unlearn_jax.studies import influence_share


@contextlib.contextmanager
def restored():
    """Leave the registries as they were."""
    before = [(registry, dict(registry)) for registry in (METHODS, REMEDIES, MODELS, DATASETS, METRICS)]
    yield
    for registry, kept in before:
        registry.clear()
        registry.update(kept)


@pytest.fixture
def registries():
    """What a test adds is gone after it."""
    with restored():
        yield


@pytest.fixture(scope="module", autouse=True)
def _page():
    """What a page adds is gone after the tests of a file; who carries influence is measured on one member."""
    with pytest.MonkeyPatch.context() as patch, restored():
        patch.setattr(influence_share, "MEMBERS", 1)
        yield
