"""Signals: the first one raises where nothing is lost, the second one is the system's."""

import signal

import pytest

from unlearn_jax import stopping


@pytest.fixture(autouse=True)
def _heard():
    """Signals as in the foreground: of tests that run in the background of a script some are ignored."""
    before = {one: signal.signal(one, signal.default_int_handler) for one in stopping.SIGNALS}
    yield
    for one, known in before.items():
        signal.signal(one, known)


@pytest.mark.parametrize("signum", stopping.SIGNALS)
def test_the_first_signal_raises_and_the_second_is_left_to_the_system(signum):
    before, told = signal.getsignal(signum), []
    with pytest.raises(stopping.Stopped) as stopped, stopping.listening(told.append):
        try:
            signal.raise_signal(signum)
        finally:
            assert [signal.getsignal(one) for one in stopping.SIGNALS] == [signal.SIG_DFL] * 2
    assert stopped.value.signum == signum and told == [signum]
    assert signal.getsignal(signum) is before and not stopping.asked()


def test_within_held_a_signal_waits_for_the_outermost_end():
    seen = []
    with pytest.raises(stopping.Stopped), stopping.listening(), stopping.held():
        with stopping.held():
            signal.raise_signal(signal.SIGTERM)
            seen.append(stopping.asked())
        seen.append("put away")
    assert seen == [signal.SIGTERM, "put away"]


def test_obey_raises_within_held():
    seen = []
    with pytest.raises(stopping.Stopped), stopping.listening(), stopping.held():
        stopping.obey()
        signal.raise_signal(signal.SIGINT)
        seen.append("here")
        stopping.obey()
        seen.append("not here")
    assert seen == ["here"]


def test_what_else_goes_wrong_within_held_is_what_is_told():
    with pytest.raises(ZeroDivisionError), stopping.listening(), stopping.held():
        signal.raise_signal(signal.SIGTERM)
        1 / 0  # noqa: B018


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.listening():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
