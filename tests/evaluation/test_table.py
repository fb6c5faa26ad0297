"""One row is all that a metric needs: studies, sweeps, audits, pages and docs have it from the table."""

import math
from pathlib import Path

import numpy as np
import pytest
from made_runs import fake_run
from panels import synthetic
from refusals import refuses

from unlearn_jax import reports
from unlearn_jax.audits.audit import _audited
from unlearn_jax.evaluation import catalogue
from unlearn_jax.evaluation.battery import of_split
from unlearn_jax.evaluation.engine import Precision
from unlearn_jax.evaluation.metric import NEEDS, REFERENCES, ModelMetric, PopulationMetric, RecordedMetric
from unlearn_jax.evaluation.table import METRICS, metric_of, rows, study_metrics
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.audit_page import render_audit
from unlearn_jax.reports.load import read_run
from unlearn_jax.reports.sweep_load import read_sweep
from unlearn_jax.reports.sweep_page import render_sweep
from unlearn_jax.reports.tables_of_study import further_table
from unlearn_jax.results.tables import read_csv
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import LATER, resolve
from unlearn_jax.studies.run import run_study
from unlearn_jax.studies.setup import SILENT
from unlearn_jax.sweeps import SweepConfig, run_sweep
from unlearn_jax.sweeps.config import asked_of

TOYS = {
    "median_gap": PopulationMetric(
        metric="median_gap", title="median gap", group="Populations of margins", unit="nats", ideal=None,
        what="Distance of the medians of the margins.", source="this test", needs=("margin",), low=0.0,
        takes=of_split("margin", "forget"),
        figure=lambda u, r: np.abs(np.nanmedian(u, axis=0) - np.nanmedian(r, axis=0)),
    ),
    "doubt": ModelMetric(
        metric="doubt", title="doubt", group="Gaps", unit="share", what="Share of targets below a margin of 1.",
        source="this test", needs=("margin",), studies=True, low=0.0, high=1.0,
        values=lambda view: np.where(np.isnan(view.margin("forget")), np.nan, view.margin("forget") < 1.0),
    ),
    "spread": ModelMetric(
        metric="spread", split="", unit="nats", what="Spread of a model's margins on the targets.", source="this test",
        needs=("margin",), studies=True, low=0.0, values=lambda view: view.margin("forget").std(axis=1),
    ),
}  # fmt: skip
CONFIG = {
    "train_size": 100, "test_size": 40, "num_targets": 4, "steps": 12, "copies": "1", "resamples": 40,
    "targets": "random",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def toys():
    with pytest.MonkeyPatch.context() as patch:
        for name, row in TOYS.items():
            patch.setitem(METRICS, name, row)
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study that asks for one toy metric and two built-in ones; the other toy is measured unasked."""
    out = tmp_path_factory.mktemp("study") / "run"
    hp = ("finetune.lr=.01,.02",)
    asked = "median_gap,accuracy,tow"
    return run_study(StudyConfig(**CONFIG, members=4, methods="finetune", hp=hp, metrics=asked, remedies="expand"), out)


def found(table, **keys):
    return [row for row in table if all(row[name] == value for name, value in keys.items())]


def margins(folder, name):
    import pyarrow.parquet as parquet

    index = parquet.read_table(folder / "margins" / "index.parquet").to_pydict()
    at = [row for row, split in zip(index["row"], index["split"]) if split == "forget"]
    return np.load(folder / "margins" / f"{name}.npy")[:, at].astype(np.float64)


def test_a_study_has_the_row_and_its_figure_is_that_of_the_margins(studied):
    table = read_csv(studied / "summary.csv")
    for reference in REFERENCES:
        rows_of = found(table, metric="median_gap", reference=reference, split="forget")
        names = {(row["method"], row["remedy"], row["setting"]) for row in rows_of}
        assert ("finetune", "", "lr=0.02") in names and ("finetune", "expand", "lr=0.01") in names
        told = found(rows_of, method="finetune", remedy="", setting="lr=0.02")[0]
        ours, theirs = margins(studied, "finetune@lr=0.02"), margins(studied, reference)
        gap = np.abs(np.median(ours, axis=0) - np.median(theirs, axis=0)).mean()
        assert float(told["value"]) == pytest.approx(gap, rel=1e-4)
        assert float(told["ci_low"]) <= gap <= float(told["ci_high"])
    doubt = found(table, metric="doubt", method="retrain")[0]
    assert float(doubt["value"]) == pytest.approx((margins(studied, "retrain") < 1.0).mean(), abs=1e-6)
    gaps = found(table, metric="doubt_gap", method="original", reference="oracle")
    difference = (margins(studied, "original") < 1.0).mean() - (margins(studied, "oracle") < 1.0).mean()
    assert float(gaps[0]["value"]) == pytest.approx(difference, abs=1e-6)
    spread = found(table, metric="spread", method="oracle")[0]
    assert float(spread["value"]) == pytest.approx(margins(studied, "oracle").std(axis=1).mean(), rel=1e-5)
    names = {row["metric"] for row in table}
    assert "accuracy_gap" in names and "tow" in names and "klom" not in names
    assert len(found(table, metric="accuracy", method="oracle", split="test")) == 1  # not a second time


def test_pages_show_it(studied, monkeypatch):
    page = reports.write_report(studied).read_text(encoding="utf-8")
    assert "Further metrics" in page and "median gap" in page and "doubt gap" in page
    for row in read_csv(studied / "summary.csv"):
        one = metric_of(row["metric"], row["variant"], row["split"])
        assert one is not None, row["metric"]
        assert not row["reference"] or one.is_compared or row["metric"].endswith("_gap"), row
    monkeypatch.delitem(METRICS, "median_gap")  # as in another process: by its name
    assert "median gap, forget,\nagainst oracle" in {cell.text for cell in further_heads(studied)}


def further_heads(folder):
    run = read_run(folder)
    return [cell for line in further_table(run.summary, 1).heads for cell in line]


def test_a_study_that_was_asked_for_nothing_has_no_such_table(tmp_path):
    assert further_table(read_run(fake_run(tmp_path / "run", levels=(4,))).summary, 4) is None


def test_a_sweep_has_it_of_every_setting(tmp_path):
    study = StudyConfig(**CONFIG, hp=("lr=.01,.02",), metrics="median_gap")
    out = run_sweep(SweepConfig(method="finetune", seeds=3), study, tmp_path / "sweep")
    table = read_csv(out / "summary.csv")
    settings = {row["setting"] for row in found(table, metric="median_gap", reference="oracle")}
    assert settings == {row["setting"] for row in found(table, metric="residual_distance")} and len(settings) == 3
    assert not found(table, metric="median_gap", method="original")
    assert "median gap (oracle)" in render_sweep(read_sweep(out))
    assert all(metric_of(row["metric"], row["variant"], row["split"]) for row in table)


@pytest.mark.slow
def test_a_sweep_without_an_oracle_has_figures_of_single_models(tmp_path):
    study = StudyConfig(**CONFIG, hp=("lr=.01,.02",), metrics="median_gap,accuracy")
    out = run_sweep(SweepConfig(method="finetune", seeds=3, oracle=False), study, tmp_path / "sweep")
    table = read_csv(out / "summary.csv")
    names = {row["metric"] for row in table}
    assert {"doubt", "accuracy"} <= names and not names & {"doubt_gap", "median_gap"}
    assert "doubt" in render_sweep(read_sweep(out))


def test_an_audit_has_it_with_its_null_band_and_its_rank(tmp_path):
    folder = _audited(synthetic(), tmp_path / "audit", Precision(20, 20, 40), {}, 0.0, SILENT)
    table = read_csv(folder / "audit.csv")
    told = {row["method"]: row for row in found(table, metric="median_gap", reference="oracle")}
    assert float(told["half"]["value"]) == pytest.approx(3.0, abs=0.5)
    assert told["half"]["inside_null"] == "false" and told["null"]["inside_null"] == "true"
    assert found(read_csv(folder / "ranking.csv"), metric="median_gap")
    page = render_audit(read_audit(folder))
    assert "median gap" in page and "Distance of the medians of the margins." in page and "doubt gap" in page
    assert all(metric_of(row["metric"], row["variant"], row["split"]) for row in table)


def test_the_page_of_metrics_has_it():
    assert "| `median_gap` |" in catalogue.page() and "Share of targets below a margin of 1." in catalogue.page()


def test_every_row_says_what_it_is():
    told = [row for row in rows() if row.metric not in TOYS]
    assert len({row.key for row in told}) == len(told)
    for row in told:
        assert row.what.endswith((".", ")")) and row.unit and set(row.needs) <= set(NEEDS), row
        assert row.ideal is None or math.isfinite(row.ideal)
        assert row.source or row.metric in ("margin", "noisy_recognition"), row


def test_the_committed_page_is_the_table(monkeypatch):
    for name in TOYS:
        monkeypatch.delitem(METRICS, name)
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    told = "run: python -m unlearn_jax.evaluation.catalogue > docs/metrics.md"
    assert page.read_text(encoding="utf-8") == catalogue.page(), told


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("kloom", "unknown metric 'kloom'.*'klom' is nearest"),
        ("cmia_accuracy", "needs logits, which a study does not keep: run unlearn-jax audit"),
        ("linear_cka", "needs features"),
        ("price_accuracy", "recorded without being asked for"),
    ],
)
def test_what_a_study_cannot_measure_is_refused(words, fault):
    refuses(fault, study_metrics, words)


def test_all_stands_for_what_needs_margins_alone():
    chosen = study_metrics("all")
    assert {row.metric for row in chosen} >= {"klom", "u_lira_auc", "tow", "median_gap", "neighbour_exposure"}
    assert not any(isinstance(row, RecordedMetric) or set(row.needs) - {"margin"} for row in chosen)
    assert {row.metric for row in study_metrics("")} == {"doubt", "spread"}


def test_what_is_asked_for_changes_no_name_of_what_is_not():
    assert resolve(StudyConfig()).name == "digits-near-atypical-49da06"  # as before there was such an option
    assert "metrics" in LATER and resolve(StudyConfig(metrics="klom")).name != resolve(StudyConfig()).name
    assert "metrics" not in asked_of(SweepConfig(method="scrub"), StudyConfig())["study"]
    assert asked_of(SweepConfig(method="scrub"), StudyConfig(metrics="klom"))["study"]["metrics"] == "klom"
