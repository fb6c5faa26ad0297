"""A table that was cut off or changed is refused by everything that reads it; of older runs nothing is known."""

import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))

from claims.read import recorded
from made_runs import METHODS, change, fake_run

from unlearn_jax import reports
from unlearn_jax.audits.replay import read_config
from unlearn_jax.cli import choose
from unlearn_jax.errors import InputError
from unlearn_jax.reports.board_rows import rows_of_run
from unlearn_jax.reports.columns import read_named
from unlearn_jax.results.tables import seals

MADE = {"command": "python experiments/study.py", "versions": {"jax": "1"}, "device": "cpu", "asked": {"copies": "4"}}
READERS = {
    "report": reports.write_report,
    "figure": lambda run: reports.save_figure([run], run / "main.pdf"),
    "table": lambda run: reports.table_text([run], "csv"),
    "comparison": lambda run: reports.write_comparison([run, run.parent / "other"], run / "compare.html"),
    "leaderboard": lambda run: rows_of_run(read_named([run])[0]),
    "choice": lambda run: choose.read_rows([run]),
    "audit": read_config,
    "claims": lambda run: recorded(run, "price_accuracy", "test", "oracle"),
}


@pytest.fixture
def run(tmp_path):
    """A complete run, its manifest speaking of its tables, beside another one."""
    for name in ("other", "run"):
        folder = fake_run(tmp_path / name, levels=(4,), methods={"scrub": METHODS["scrub"]})
        change(folder, **MADE)
    return folder


def sealed(run):
    """The run with what a study says of its tables."""
    counts = {
        "summary.csv": len((run / "summary.csv").read_text().splitlines()) - 1,
        "results.parquet": parquet.read_metadata(run / "results.parquet").num_rows,
    }
    change(run, files=seals(run, counts))
    return counts


def cut(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))


def test_a_summary_cut_at_the_end_of_a_line_is_refused_by_every_reader(run, unsaved):
    rows = sealed(run)["summary.csv"]
    for read in READERS.values():
        read(run)
    cut(run / "summary.csv")
    for read in READERS.values():
        with pytest.raises(InputError, match=rf"summary.csv .* had {rows} rows .*run unlearn-jax study again\.$"):
            read(run)


def test_members_that_were_changed_are_refused(run):
    sealed(run)
    table = parquet.read_table(run / "results.parquet")
    parquet.write_table(table.slice(1), run / "results.parquet")
    with pytest.raises(InputError, match=r"results.parquet is not the file that the run wrote"):
        reports.write_report(run)


QUICK = ("leaderboard", "table", "choice", "audit", "claims")


@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(READERS), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_older_runs_are_still_read(run, names):
    for _ in range(2):  # without the entry, and with an empty one
        for name in names:
            READERS[name](run)
        change(run, files=None)


@pytest.mark.parametrize("files", ({"summary.csv": {}}, {"summary.csv": 3}, {"gone.csv": {"rows": 1, "sha256": ""}}))
def test_what_a_manifest_says_that_cannot_be_is_refused(run, files):
    change(run, files=files)
    with pytest.raises(InputError, match=r"run unlearn-jax study again\.$"):
        reports.write_report(run)
