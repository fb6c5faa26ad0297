"""Two processes with four devices each train what one process began, and one reads back what they left."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import toy
from stores import stop_late
from two_hosts import train

from unlearn_jax.errors import InputError
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Options
from unlearn_jax.runtime import joining, multihost
from unlearn_jax.tasks import classification

HERE = Path(__file__).parent
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def free_address():
    """A port of this machine that nobody holds."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture(scope="module")
def two(tmp_path_factory, quick):
    """Run two processes on a store in which one process has left the first four members."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(KeyboardInterrupt):
        train(not quick, folder / "store", stop_late)
    assert len(list((folder / "store").glob("*.json"))) == 1
    paths = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": QUICK}
    command, address = [sys.executable, str(HERE / "two_hosts.py")], free_address()
    how = {"env": environment, "text": True, "stderr": subprocess.PIPE}
    words = [[*command, address, str(index), str(folder), *([] if quick else ["deep"])] for index in (1, 0)]
    started = [subprocess.Popen(one, **how) for one in words]
    said = [process.communicate(timeout=600)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return folder


def known(two, index):
    return json.loads((two / f"known{index}.json").read_text())


def arrays(two, index):
    with np.load(two / f"found{index}.npz") as found:
        return [found[name] for name in found.files]


def test_both_processes_hold_the_same_bits(two):
    first, other = arrays(two, 0), arrays(two, 1)
    assert len(first) == len(other) > 5
    for a, b in zip(first, other):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_they_are_the_members_that_one_process_trains(two, tmp_path, quick):
    found = train(not quick, tmp_path)
    large = {} if quick else toy.train(2, options=Options(chunk=2)).variables
    scores = evaluate(toy.perceptron(), classification(), found[-1].variables, toy.stored(), width=8)
    leaves = jax.tree.leaves(([(one.variables, one.loss) for one in found], large))
    for mine, theirs in zip([*leaves, scores.margin, scores.correct], arrays(two, 0), strict=True):
        assert mine.shape == theirs.shape  # seven members, of eight places
        np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-4)


def test_what_one_process_stored_two_read_and_the_other_way_round(two, chunks_trained, quick):
    for index in (0, 1):
        assert known(two, index)["told"][0] == [4, 0]  # read back, not trained
        assert known(two, index)["told"][-1][0] == 7
    train(not quick, two / "store")
    assert chunks_trained == []
    assert len(list((two / "store").glob("*.json"))) == (2 if quick else 4)  # each part once: one process wrote


def test_one_process_decides_and_tells(two):
    for index in (0, 1):
        mine = known(two, index)
        assert mine["devices"] == [8, 4] and mine["first"] == (index == 0)
        assert mine["value"] == [0, "said"]
        assert mine["errors"] == [["InputError", "process 0 found a fault."], ["OSError", "[Errno 28] no space"]]
        same, other = mine["agree"]
        assert same is None and other[1].startswith("process 1 has another thing than process 0")
        assert mine["bits"] == np.array([-0.0, np.nan, 1.0]).tobytes().hex()


@pytest.mark.parametrize(
    "given, said",
    [
        (("localhost", 2, 0), "--coordinator is 'localhost': give HOST:PORT"),
        (("localhost:1234", 2, None), "--num-processes and --process-id go together"),
        (("localhost:1234", 2, 2), "--process-id is 2 of 2 processes: give 0 to 1"),
        (("auto", None, None), "the cluster does not tell who takes part"),
    ],
)
def test_processes_that_cannot_meet_are_refused(given, said, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: (_ for _ in ()).throw(ValueError("none")))
    with pytest.raises(InputError, match=said):
        joining.start(*given)


def test_a_port_that_is_taken_and_a_host_that_is_not_there_are_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(InputError, match="process 0 cannot listen on port .*: give --coordinator another port"):
            joining.start(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0)
    with pytest.raises(InputError, match="process 1 cannot reach process 0 at .*: start process 0 too"):
        joining.start(free_address(), 2, 1, patience=0)


def test_one_process_waits_for_nobody():
    assert multihost.is_first() and not multihost.several()
    multihost.barrier()
    multihost.assert_equal("a", "thing")
    assert multihost.from_process_zero(lambda: (1, 2)) == (1, 2) and multihost.broadcast({"x": 1}, None) == {"x": 1}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("127.0.0.1:1234", "127.0.0.1:1234"),
        ("[::1]:1234", "[::1]:1234"),
        ("192.0.2.7:1234", None),  # of another host
        ("nowhere.invalid:1234", None),
        ("node7:1234", None),  # which this host knows as its loopback address
    ],
)
def test_process_0_listens_where_it_is_named_if_that_is_an_address_of_its_host(asked, found, monkeypatch):
    look = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda h, *a, **k: look("127.0.0.1" if h == "node7" else h, *a, **k))
    if asked[1] == ":" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    assert joining.bind_address(asked) == found


def test_only_what_tells_of_another_process_is_taken_for_its_end(monkeypatch):
    gone = jax.errors.JaxRuntimeError("UNAVAILABLE: Connection reset by peer")
    assert not joining.is_gone(gone)  # one process alone
    monkeypatch.setattr(joining, "several", lambda: True)
    assert joining.is_gone(gone) and not joining.is_gone(
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    )
    assert not joining.is_gone(RuntimeError("UNAVAILABLE"))
