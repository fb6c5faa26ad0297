"""The study script is killed or asked to stop at drawn moments; the same command then ends as if nothing had been."""

import contextlib
import csv
import json
import os
import shlex
import shutil
import signal
import time

import numpy as np
import pytest
from pyarrow import parquet
from runs import Runs

from unlearn_jax import reports
from unlearn_jax.errors import InputError

WORDS = shlex.split(
    "--train-size 60 --test-size 30 --num-targets 2 --members 4 --steps 6 --similarity exact --copies 1 "
    "--targets random --resamples 20 --methods none --quiet --out run --no-report"
)
WATCHED = """
import os, signal, sys
seen = os.open("events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
count, FILES = 0, ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
def hook(event, args):
    global count
    if event in FILES and str(args[0]).startswith((os.getcwd() + "/", "run/", "populations/")):
        count += 1
        os.write(seen, (event + chr(10)).encode())
        if count == MOMENT:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
ASKED = """
import os, signal
from unlearn_jax.population import resume
follow, calls = resume.follow, []
def counted(advance, *rest):
    def told(*args):
        calls.append(1)
        if len(calls) == MOMENT:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(*args)
    return follow(told, *rest)
resume.follow = counted
"""


@pytest.fixture(scope="module")
def runs():
    """The script in processes of its own, with the devices and programs of the tests."""
    made = Runs(WORDS, os.environ["XLA_FLAGS"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """A folder with the uninterrupted run, and how often it touched a file."""
    folder = tmp_path_factory.mktemp("whole")
    runs.start(folder, first=WATCHED.replace("MOMENT", "-1"))
    assert runs.wait() == 0, (folder / "errors").read_text()
    return folder, len((folder / "events").read_text().splitlines())


def figures(folder):
    """What a run found, without what it took."""
    rows = parquet.read_table(folder / "run" / "results.parquet").to_pylist()
    with (folder / "run" / "summary.csv").open() as file:
        summary = [row for row in csv.DictReader(file) if row["metric"] != "seconds"]
    return repr([row for row in rows if row["metric"] != "seconds"]), summary


def check_same(folder, whole):
    """Assert that a run in ``folder`` found what the uninterrupted one did, to the bit, and left nothing behind."""
    assert figures(folder) == figures(whole[0])
    for path in (whole[0] / "run" / "margins").glob("*.npy"):
        np.testing.assert_array_equal(np.load(folder / "run" / "margins" / path.name), np.load(path))
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert manifest["status"] == "complete" and manifest["levels_done"] == [[1, 0.5]]
    lines = (folder / "run" / "records.jsonl").read_text().splitlines()
    assert len(lines) == len((whole[0] / "run" / "records.jsonl").read_text().splitlines()) == len(set(lines))
    assert not (folder / "populations" / "midway").exists()
    hidden = [path for path in folder.rglob(".*") if path.name != ".lock"]
    assert hidden == [] and "Traceback" not in (folder / "errors").read_text()


def kill_and_finish(runs, whole, folder, moments):
    """Kill a run at the given shares of its file operations, one life after another; then let it end."""
    killed = 0
    for moment in moments:
        first = WATCHED.replace("MOMENT", str(max(1, int(moment * whole[1]))))
        runs.start(folder, "--save-every", 1e-6, first=first)
        code = runs.wait()
        assert code in (0, -signal.SIGKILL), (folder / "errors").read_text()
        killed += code != 0
    runs.start(folder)
    assert runs.wait() == 0, (folder / "errors").read_text()
    return killed


def test_killed_and_stopped_it_ends_as_if_nothing_had_been(runs, whole, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    runs.start(folder, first=ASKED.replace("MOMENT", "8"))  # in the second population
    assert runs.wait() == 128 + signal.SIGTERM
    assert json.loads((folder / "run" / "manifest.json").read_text())["status"] == "stopped"
    assert len(list((folder / "populations" / "midway").iterdir())) == 1
    told = (folder / "errors").read_text()
    assert "stopping: " in told and told.splitlines()[-1].endswith("the same command continues.")
    assert kill_and_finish(runs, whole, folder, [0.5]) == 1
    check_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_many_moments(runs, whole, tmp_path, seed):
    folder = tmp_path / "killed"
    assert kill_and_finish(runs, whole, folder, np.random.default_rng(seed).uniform(0, 1, 6)) > 1
    check_same(folder, whole)


@pytest.mark.slow
def test_killed_at_any_time_on_the_clock(runs, whole, tmp_path):
    folder, began = tmp_path / "killed", time.monotonic()
    runs.start(tmp_path / "timed")
    assert runs.wait() == 0
    took = time.monotonic() - began
    killed = 0
    for share in np.random.default_rng(1).uniform(0.1, 0.9, 8):
        process = runs.start(folder, "--save-every", 1e-6)
        time.sleep(share * took)
        with contextlib.suppress(ProcessLookupError):  # one that went on from the kills before may be done by now
            os.kill(process, signal.SIGKILL)
        ended = runs.wait()
        assert ended in (0, -signal.SIGKILL), (folder / "errors").read_text()
        killed += ended != 0
    assert killed > 1
    runs.start(folder)
    assert runs.wait() == 0, (folder / "errors").read_text()
    check_same(folder, whole)


def test_the_report_of_an_unfinished_run_shows_what_is_done(whole, tmp_path, unsaved):
    run = tmp_path / "run"
    shutil.copytree(whole[0] / "run", run)
    (run / "margins").rename(tmp_path / "copies=1")  # as where another level comes after
    (run / "margins").mkdir()
    (tmp_path / "copies=1").rename(run / "margins" / "copies=1")
    for name in ("results.parquet", "summary.csv"):
        (run / name).unlink()
    with (run / "records.jsonl").open("a") as file:  # the next level has begun
        row = json.loads((run / "records.jsonl").read_text().splitlines()[0])
        file.write(json.dumps(row | {"copies": 4, "gamma": 0.2}) + "\n" + '{"dataset": "dig')
    at = {"copies": 4, "population": "oracle", "since": "2026-01-01T10:00:00"}
    manifest = json.loads((run / "manifest.json").read_text()) | {"status": "running", "levels": 2, "at": at}
    (run / "manifest.json").write_text(json.dumps(manifest))
    said = "Unfinished: 1 of 2 levels are done (copies 1); running or killed at copies 4, oracle, since 2026-"
    text = reports.write_report(run).read_text()
    assert said in text and "Not identifiable: with 1 exact copy" in text
    assert reports.read_run(run).summary.levels == (1,) and len(reports.read_run(run).margins["oracle"]) == 4 * 2
    (run / "manifest.json").write_text(json.dumps(manifest | {"levels_done": []}))
    with pytest.raises(InputError, match="nothing to show yet: 0 of 2 levels are done; running or killed at copies 4"):
        reports.write_report(run)
