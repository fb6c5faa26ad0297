"""A study that several processes run together: the records of one, written once, and continued by any number."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

ROOT = Path(__file__).parents[2]
TINY = ["--train-size", "60", "--test-size", "30", "--num-targets", "2", "--members", "5", "--steps", "4"]
TINY += ["--similarity", "exact", "--copies", "0,1", "--targets", "random", "--resamples", "20", "--quiet"]
TINY += ["--methods", "finetune,scrub", "--out", "run", "--store", "store"]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
pytestmark = pytest.mark.slow


def started(folder, *words):
    """One process of a study in a folder, on two devices."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK, "JAX_NUM_CPU_DEVICES": "2"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # which JAX has set here
    command = [sys.executable, str(ROOT / "experiments" / "study.py"), *TINY, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def two(folder, *words):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    given = ["--coordinator", address, "--num-processes", "2"]
    return [started(folder, *given, "--process-id", str(index), *words) for index in (0, 1)]


def ended(*processes):
    said = [process.communicate(timeout=600)[0] for process in processes]
    return [process.returncode for process in processes], said


def summary(folder):
    with (folder / "run" / "summary.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The study by one process; read only."""
    folder = tmp_path_factory.mktemp("alone")
    codes, said = ended(started(folder))
    assert codes == [0], said
    return folder


def same_study(folder, alone):
    """Assert that a study has the records of one process, every row once."""
    mine, theirs = summary(folder), summary(alone)
    assert len(mine) == len(theirs) > 100
    for a, b in zip(mine, theirs):
        assert {k: a[k] for k in list(a)[:14]} == {k: b[k] for k in list(b)[:14]}
        if a["metric"] in ("accuracy", "margin"):  # ratios of two steps' training are noise
            np.testing.assert_allclose(float(a["value"]), float(b["value"]), rtol=1e-3, atol=1e-3)
    values = parquet.read_table(folder / "run" / "results.parquet").to_pylist()
    assert {row["member"] for row in values} == {-1, 0, 1, 2, 3, 4}  # five members on four devices
    assert {len(np.load(path)) for path in (folder / "run" / "margins").rglob("*.npy")} == {5}
    assert json.loads((folder / "run" / "manifest.json").read_text())["status"] == "complete"
    assert {path.name for path in (folder / "store").iterdir()} == {path.name for path in (alone / "store").iterdir()}


def test_two_processes_write_the_study_of_one(alone, tmp_path):
    codes, said = ended(*two(tmp_path / "two"))
    assert codes == [0, 0], said
    assert "report: " in said[0] and "residual" not in said[1]  # one tells
    same_study(tmp_path / "two", alone)


def waited_for(store, parts, processes):
    """Wait until a store holds some members."""
    while len(list(store.glob("*.json"))) < parts:
        assert all(process.poll() is None for process in processes), ended(*processes)
        time.sleep(0.05)


def test_killed_hosts_are_continued_by_another_number(alone, tmp_path):
    folder = tmp_path / "killed"
    both = two(folder)
    waited_for(folder / "store", 3, both)
    for process in both:
        process.send_signal(signal.SIGKILL)
    ended(*both)
    before = {path: path.stat().st_mtime_ns for path in (folder / "store").glob("*.json")}
    codes, said = ended(started(folder))
    assert codes == [0], said
    assert {path: path.stat().st_mtime_ns for path in before} == before  # read, not trained again
    same_study(folder, alone)


def test_one_host_asked_to_stop_stops_all(alone, tmp_path):
    folder = tmp_path / "stopped"
    both = two(folder)
    waited_for(folder / "store", 2, both)
    both[1].send_signal(signal.SIGTERM)
    codes, said = ended(*both)
    assert codes == [143, 143], said
    assert json.loads((folder / "run" / "manifest.json").read_text())["status"] == "stopped"
    codes, said = ended(*two(folder))
    assert codes == [0, 0], said
    same_study(folder, alone)


def test_bad_input_is_one_sentence_of_every_process(tmp_path):
    (tmp_path / "run").write_text("mine")
    codes, said = ended(*two(tmp_path))
    assert codes == [2, 2] and all("'run' is a file: give another --out folder." in text for text in said)


@pytest.mark.parametrize("victim", (0, 1))
def test_when_one_process_is_killed_the_other_ends_with_one_sentence(tmp_path, victim):
    both = two(tmp_path, "--steps", "4000", "--members", "8")
    waited_for(tmp_path / "store", 1, both)
    both[victim].kill()
    said = both[1 - victim].communicate(timeout=150)[0].strip().splitlines()
    both[victim].communicate()
    assert both[1 - victim].returncode == 1, said  # before it JAX may say how it noticed
    assert said[-1].startswith("error: ") and "another process of this run has ended" in said[-1], said


def listening(process):
    """Addresses at which a process and those that it started listen."""
    told = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    return {line.split()[3] for line in told.splitlines() if f"pid={process.pid}," in line}


@pytest.mark.skipif(shutil.which("ss") is None, reason="no ss to look at sockets")
def test_process_0_listens_on_the_address_that_is_named(tmp_path):
    both = two(tmp_path, "--steps", "4000", "--members", "8")
    waited_for(tmp_path / "store", 1, both)
    port = both[0].args[both[0].args.index("--coordinator") + 1].rpartition(":")[2]
    found = [address for address in listening(both[0]) if address.endswith(f":{port}")]
    for process in both:
        process.kill()
        process.communicate()
    assert found and all("127.0.0.1" in address for address in found)
