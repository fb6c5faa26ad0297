"""Signals: the first one raises where nothing is lost, the second one is the system's."""

import gc
import signal
import sys
import weakref

import pytest

from unlearn_jax.results.recorder import Recorder
from unlearn_jax.runtime import signals


@pytest.fixture(autouse=True)
def _heard():
    """Signals as in the foreground: of tests that run in the background of a script some are ignored."""
    before = {one: signal.signal(one, signal.default_int_handler) for one in signals.SIGNALS}
    yield
    for one, known in before.items():
        signal.signal(one, known)


@pytest.mark.parametrize("signum", signals.SIGNALS)
def test_the_first_signal_raises_and_the_second_is_left_to_the_system(signum):
    before, told = signal.getsignal(signum), []
    with pytest.raises(signals.Stopped) as stopped, signals.listening(told.append):
        try:
            signal.raise_signal(signum)
        finally:
            assert [signal.getsignal(one) for one in signals.SIGNALS] == [signal.SIG_DFL] * 2
    assert stopped.value.signum == signum and told == [signum]
    assert signal.getsignal(signum) is before and not signals.asked()


def test_within_held_a_signal_waits_for_the_outermost_end_or_until_it_is_obeyed():
    seen = []
    with pytest.raises(signals.Stopped), signals.listening(), signals.held():
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            seen.append(signals.asked())
        seen.append("put away")
    assert seen == [signal.SIGTERM, "put away"]
    seen = []
    with pytest.raises(signals.Stopped), signals.listening(), signals.held():
        signals.obey()
        signal.raise_signal(signal.SIGINT)
        seen.append("here")
        signals.obey()
        seen.append("not here")
    assert seen == ["here"]
    with pytest.raises(ZeroDivisionError), signals.listening(), signals.held():
        signal.raise_signal(signal.SIGTERM)
        1 / 0  # noqa: B018  # what else goes wrong is what is told


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.listening():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def in_garbage_collection(come):
    def callback(phase, info):
        if phase == "start":
            gc.callbacks.remove(callback)
            come()

    gc.callbacks.append(callback)
    gc.collect()


def in_del(come):
    class Left:
        def __del__(self):
            come()

    Left()


def in_weak_reference(come):
    class Left:
        pass

    left = Left()
    reference = weakref.ref(left, lambda _: come())
    del left
    assert reference() is None


def in_several(come):
    """A collection whose callbacks are Python too, so that what is raised again can be lost again."""
    more = [lambda phase, info: len(phase)] * 3
    gc.callbacks.extend(more)
    try:
        in_garbage_collection(come)
    finally:
        for one in more:
            gc.callbacks.remove(one)


IGNORED = (in_garbage_collection, in_del, in_weak_reference, in_several)


@pytest.mark.parametrize("where", IGNORED)
@pytest.mark.parametrize("signum", signals.SIGNALS)
def test_a_signal_that_comes_where_exceptions_are_ignored_is_raised_outside(where, signum):
    hook, profile, steps = sys.unraisablehook, sys.getprofile(), []
    with pytest.raises(signals.Stopped) as stopped, signals.listening():
        where(lambda: signal.raise_signal(signum))
        for step in range(1000):
            steps.append(str(step))
    assert stopped.value.signum == signum and len(steps) < 1000
    assert sys.unraisablehook is hook and sys.getprofile() is profile


@pytest.mark.parametrize("where", IGNORED)
def test_a_signal_that_was_lost_is_still_seen_where_the_run_looks(where, monkeypatch):
    seen = []
    with pytest.raises(signals.Stopped), signals.listening():
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # somebody else's
        where(lambda: signal.raise_signal(signal.SIGTERM))
        seen.append("lost")
        with signals.held():
            signals.look()  # not here
            seen.append("held")
        seen.append("not here")
    assert seen == ["lost", "held"]
    monkeypatch.undo()
    with pytest.raises(signals.Stopped), signals.listening():
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
        where(lambda: signal.raise_signal(signal.SIGTERM))
        signals.look()
        seen.append("not here either")
    assert seen == ["lost", "held"]


def test_other_exceptions_that_are_ignored_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with signals.listening():
        in_del(lambda: 1 / 0)
        signals.look()
    assert [one.exc_type for one in told] == [ZeroDivisionError]


def test_a_run_that_ends_before_it_could_be_raised_leaves_nothing_behind():
    def last():
        with signals.listening():
            in_del(lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(signals.Stopped):
        last()
    for step in range(100):
        str(step)
    assert sys.getprofile() is None and not signals.asked()
    assert [signal.getsignal(one) for one in signals.SIGNALS] == [signal.default_int_handler] * 2


def test_records_and_pages_are_places_where_a_run_looks(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path)
    with pytest.raises(signals.Stopped), signals.listening():
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
        in_del(lambda: signal.raise_signal(signal.SIGTERM))
        recorder.figure({"method": "scrub"}, 1.0)
    recorder.close()
