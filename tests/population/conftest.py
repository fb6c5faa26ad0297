import pytest
import toy

from unlearn_jax.population import resume, run


@pytest.fixture(scope="module", autouse=True)
def quick(request):
    """Programs that compile soon, unless the slow tests were asked for as well (``-m ""``)."""
    quick = request.config.getoption("markexpr") == "not slow"
    with toy.quick_programs(quick):
        yield quick


@pytest.fixture(scope="module", autouse=True)
def many_segments():
    """Short runs in as many segments as long ones have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "SHORTEST", 0.0)
        yield


@pytest.fixture(scope="module")
def trained(many_segments):
    """Eight members trained for 20 steps in one chunk; read only."""
    return toy.train(options=run.Options(chunk=8))


@pytest.fixture
def chunks_trained(monkeypatch):
    """A list that grows by one for each chunk that is trained, not read back."""
    calls, train_chunk = [], run.train_chunk

    def counting(*args):
        calls.append(1)
        return train_chunk(*args)

    monkeypatch.setattr(run, "train_chunk", counting)
    return calls
