"""The contract of methods as a pytest fixture: ``pytest_plugins = ["unlearn_jax.testing.fixtures"]`` makes it known.

The library is imported where a test asks for the fixture, so that collecting tests stays quick.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def method_contract() -> Callable[..., None]:
    """`unlearn_jax.testing.check_method`: ``method_contract(METHODS["mine"], {"epochs": 6, "batch": 16})``."""
    from unlearn_jax.testing import check_method

    return check_method
