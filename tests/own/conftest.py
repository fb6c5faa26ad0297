import pytest
import toy

from unlearn_jax.population import run as runner


@pytest.fixture(scope="module", autouse=True)
def quick(request):
    """Programs that compile soon, unless the slow tests were asked for as well (``-m ""``)."""
    with toy.quick_programs(request.config.getoption("markexpr") == "not slow"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SEGMENTS", 2)
        yield
