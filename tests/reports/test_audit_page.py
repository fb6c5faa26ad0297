"""The page of an audit, on a small synthetic folder."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from made_runs import Page, section_of

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.reports import audit_words
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.audit_page import render_audit
from unlearn_jax.reports.drawings import KINDS
from unlearn_jax.reports.page import audit_told

COLUMNS = (
    "dataset", "model", "targets", "similarity", "copies", "gamma", "method", "setting", "metric", "variant", "split",
    "reference", "value", "ci_low", "ci_high", "ci_members_low", "ci_members_high", "n", "ideal", "better",
    "null_low", "null_high", "null_members", "inside_null",
)  # fmt: skip
RANKING = ("metric", "variant", "split", "reference", "method", "away", "rank", "low", "high", "tau", "sees_retrain")
EVIL = "<b>evil&co"
METHODS = ("finetune", EVIL)
NUMBERS = ("value", "ci_low", "ci_high", "null_low", "null_high")
BETTER = {"klom": "small", "tow": "large", "u_lira_auc": "small", "neighbour_exposure": "small"}
# metric, variant, split, null band, name on the page, digits, scale
METRICS = (
    ("klom", "closed", "forget", (1.0, 2.0), "KLOM", 2, 1),
    ("rank_effect", "mann_whitney", "forget", (0.45, 0.55), "rank effect", 3, 1),
    ("u_lira_auc", "cross-fitted", "forget", (0.4, 0.6), "U-LiRA AUC", 3, 1),
    ("tow", "means", "", (0.9, 0.98), "ToW", 3, 1),
    ("accuracy_gap", "", "forget", (-0.05, 0.05), "accuracy gap, targets", 1, 100),
    ("neighbour_exposure", "online", "similar", (np.nan, np.nan), "neighbours exposed", 3, 1),
)
# how far a population is beyond its band, by reference
BEYOND = {
    "oracle": {"retrain": 3.0, "null": 0.0, "original": 4.0, "finetune": 3.5, EVIL: 0.4},
    "retrain": {"oracle": 3.0, "null": 3.0, "original": 1.0, "finetune": 0.2, EVIL: 2.5},
}
SECTIONS = ["answer", "details", "metrics-oracle", "metrics-retrain", "ranks", "disagree", "roc", "klom", "relearning"]
SECTIONS += ["knowledge", "distance", "gaps", "words", "notes", "reproduce"]


def fake_rows(references=("oracle", "retrain")):
    rows = []
    for metric, variant, split, (low, high), *_ in METRICS:
        for reference in references:
            for label, beyond in BEYOND[reference].items():
                if label in ("oracle", "null") and label not in references and "oracle" not in references:
                    continue
                middle, half = (0.0, 0.1) if np.isnan(low) else ((low + high) / 2, (high - low) / 2)
                better = BETTER.get(metric, "near the ideal")
                value = middle + (-1 if better == "large" else 1) * beyond * half
                inside = "" if np.isnan(low) else str(bool(low <= value <= high)).lower()
                ends = (value - half / 5, value + half / 5, value - half / 9, value + half / 9)
                row = ("digits", "mlp", "atypical", "near", 8, 0.1, label, "", metric, variant, split, reference)
                rows.append(dict(zip(COLUMNS, (*row, value, *ends, 8, middle, better, low, high, 8, inside))))
    return rows


def fake_ranks(references=("oracle", "retrain")):
    rows = []
    for metric, variant, split, (low, _), *_ in METRICS:
        for reference in references:
            order = sorted(METHODS, key=lambda m: abs(BEYOND[reference][m]))
            sees = "true" if reference == "oracle" and np.isfinite(low) else ""
            for method in METHODS:
                rank = order.index(method) + 1
                row = (metric, variant, split, reference, method, 0.1, float(rank), float(rank), float(rank), 0.5, sees)
                rows.append(dict(zip(RANKING, row)))
    return rows


def write(path, columns, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def fake_curves():
    rng, grid = np.random.default_rng(0), np.geomspace(1e-3, 1, 20)
    band = lambda value: np.stack([value, value * 0.9, value * 1.1])
    curves = {"fpr": grid, "noise_radii": np.array([0.0, 0.1, 1.0])}
    curves["klom_null/oracle"] = np.stack(
        [np.linspace(0, 4, 9), *np.clip(np.linspace(0, 1, 9) * [[1.0], [0.8], [1.2]], 0, 1)]
    )
    for label in ("retrain", "null", EVIL):
        curves[f"roc/{label}/oracle"] = np.clip(band(np.sqrt(grid)), 0, 1)
        curves[f"roc_least/{label}/oracle"] = np.asarray(0.01)
        curves[f"klom/{label}/oracle"] = rng.random(6) * 9
        curves |= {f"{kind}/{label}/oracle": band(np.array([3.0, 2.0, 1.1])) for kind in ("noisy", "targeted")}
        curves[f"distance_centre/{label}/oracle"] = np.arange(3.0)
        curves[f"distance/{label}/oracle"] = band(np.array([0.4, 0.2, 0.1]))
        curves |= {f"{kind}/{label}": band(np.linspace(0.2, 0.9, 5)) for kind in ("relearning", "benign_relearning")}
    return curves


def fake_audit(folder, references=("oracle", "retrain"), curves=None, **manifest):
    folder.mkdir(parents=True)
    write(folder / "audit.csv", COLUMNS, fake_rows(references))
    write(folder / "ranking.csv", RANKING, fake_ranks(references))
    np.savez(folder / "curves.npz", **({"fpr": np.geomspace(1e-3, 1, 9)} if curves is None else curves))
    members = ("oracle", "retrain", "original", "null", *METHODS)
    told = {
        "command": "python experiments/audit.py runs/<i>x</i>",
        "facts": {"dataset": "<script>", "model": "mlp", "targets": "atypical", "similarity": "near", "copies": 8},
        "members": {name: 8 for name in members if "oracle" in references or name not in ("oracle", "null")},
        "examples": {"forget": 6, "similar": 48, "test": 30},
        "methods": list(METHODS),
        "precision": {"draws": 20, "splits": 20, "resamples": 50, "seed": 0},
        "notes": ["null bands are made of populations like <oracle>"],
        "seconds_total": 12.5,
        "seconds": {"klom": 3.0},
        "versions": {"jax": "0.10.2"},
        "device": "cpu, 2 cores",
    }
    (folder / "audit.json").write_text(json.dumps(told | manifest))
    return folder


def rows_of(text, section):
    """Rows of a section's tables, of (text, class) for each cell."""
    page = section_of(text, section)
    return [[(" ".join(t.split()), k) for t, k in zip(*both)] for both in zip(page.rows, page.kinds)]


def table(text, section):
    """Rows of a section's first table by their first cell: column -> (text, class)."""
    head, *rows = rows_of(text, section)
    names = [cell if cell == "null band" else cell.split()[0] for cell, _ in head]
    return {row[0][0]: dict(zip(names, row)) for row in rows if len(row) == len(head)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_audit(tmp_path_factory.mktemp("page") / "audit", curves=fake_curves())


@pytest.fixture(scope="module")
def text(folder):
    out = reports.write_audit_page(folder)
    assert out == folder.parent / "audit.html"
    return out.read_text(encoding="utf-8")


def bare(folder, **change):
    """The page of an audit without curves and gaps, which draws nothing."""
    audit = read_audit(folder)
    figures = {key: rows for key, rows in audit.figures.items() if key[0] != "accuracy_gap"}
    return render_audit(audit._replace(**{"figures": figures, "curves": {"fpr": audit.curves["fpr"]}} | change))


def test_has_every_section_and_needs_no_network(text):
    found = Page(text)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    assert len(found.ids) == len(set(found.ids))
    assert not found.tags & {"script", "link", "iframe", "object", "i", "b"}
    assert not re.search(r'(src|href)="(?!#)', text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    assert text.count("<svg") == 12


def shown(text, digits, scale):
    told = f"{scale * float(text):.{digits}f}"
    return told.replace("-", "−") if float(told) else told.replace("-", "")


def test_numbers_and_shades_equal_the_table(folder, text):
    tables = {reference: table(text, f"metrics-{reference}") for reference in BEYOND}
    with (folder / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {metric[:3]: metric[4:] for metric in METRICS}
    for row in rows:
        name, *form = names[row["metric"], row["variant"], row["split"]]
        cells = tables[row["reference"]][name]
        value, low, high, null_low, null_high = (shown(row[k], *form) for k in NUMBERS)
        told, kind = cells[row["method"]]
        assert told == f"{value} [{low}, {high}]"
        assert (kind == "inside") == (row["inside_null"] == "true")
        band = {"small": f"≤ {null_high}", "large": f"≥ {null_low}"}.get(row["better"], f"[{null_low}, {null_high}]")
        assert cells["null band"][0] == ("–" if row["null_low"] == "nan" else band)
    assert len(rows) == 60 and 0 < sum(row["inside_null"] == "true" for row in rows) < 60


def test_ranks_are_shown_under_both_references(text):
    told = {row[0][0]: row[1:] for row in rows_of(text, "ranks")[2:]}
    assert [t for t, _ in told["KLOM"]] == ["2 2–2", "1 1–1", "0.50", "yes", "1 1–1", "2 2–2", "0.50"]
    assert told["KLOM"][1][1] == "best oracle" and told["KLOM"][4][1] == "first best retrain"
    assert told["neighbours exposed"][3][0] == "–"
    assert "different best methods by 6 of 6 metrics" in text and "By 6 of 6, at least one pair" in text


def test_of_many_methods_the_nearest_are_told_and_the_ranks_folded_away(folder, monkeypatch):
    monkeypatch.setattr("unlearn_jax.reports.audit_tables.MAX_METHODS", 1)
    rows = [[cell for cell, _ in row] for row in rows_of(bare(folder), "ranks")]
    assert rows[0][:2] == ["Metric", "nearest by oracle"]
    told = {row[0]: row[1:] for row in rows if len(row) == 6}
    assert told["KLOM"] == [f"{EVIL} 1–1, finetune 2–2", "0.50", "yes", f"finetune 1–1, {EVIL} 2–2", "0.50"]
    assert any(row[:2] == ["KLOM", "2 2–2"] for row in rows)  # the matrix is there, below


def test_the_answer_counts_what_the_bands_support(folder, text):
    assert 'id="answer">Against the oracle, 5 of 5 metrics see the influence that retraining left' in text
    assert "finetune ranks first by 5 of 5" in text and "like oracle is told from it by 0 of 5" in text
    audit = read_audit(folder)
    key = ("klom", "closed", "forget", "oracle")
    row = audit.figures[key]["retrain"]
    for change in ({"low": row.null_high - 0.1}, {"value": 0.5, "low": 0.4, "high": 0.6}, {"inside": True}):
        moved = audit.figures | {key: audit.figures[key] | {"retrain": row._replace(**change)}}
        assert "4 of 5 metrics" in audit_words.headline(audit._replace(figures=moved))
    nearer = {("klom", "closed", "forget", "oracle"): -9.0, ("tow", "means", "", "oracle"): 9.0}
    for key, beyond in nearer.items():  # below a distance's band, above a likeness's: nearer than alike populations
        row = audit.figures[key]["retrain"]._replace(value=beyond, low=beyond - 0.1, high=beyond + 0.1)
        assert audit_words.apart(row) is False and audit_words.apart(row._replace(better="near the ideal"))
    none = audit.figures | {k: v | {"retrain": v["null"]} for k, v in audit.figures.items() if k[3] == "oracle"}
    assert "no more than chance would" in audit_words.headline(audit._replace(figures=none))
    facts = audit.manifest | {"facts": {"copies": 0}}
    assert "5 of 5 metrics tell retraining from the oracle" in audit_words.headline(audit._replace(manifest=facts))


def test_names_are_escaped(text):
    assert "&lt;b&gt;evil&amp;co" in text and "<b>evil" not in text
    assert "What the audits see: &lt;script&gt;" in text and "runs/&lt;i&gt;x&lt;/i&gt;" in text


def test_own_logits_without_oracle(tmp_path):
    about = {"facts": {"dataset": "own logits"}, "examples": {"forget": 6, "test": 9}, "logits": {"retrain": "b.npz"}}
    folder = fake_audit(tmp_path / "mine", references=("retrain",), **about)
    text = bare(folder)
    ids = Page(text).ids
    assert 'id="answer">There is no oracle' in text and "it cannot be known" in text
    assert "finetune by 0 of 4; &lt;b&gt;evil&amp;co by 4 of 4" in text
    assert "metrics-oracle" not in ids and "disagree" not in ids and "metrics-retrain" in ids
    assert "halves of retrain" in text and "too wide" in text and "tau" not in text


def test_missing_pieces_are_left_out(tmp_path):
    folder = fake_audit(tmp_path / "audit", notes=[], methods=[], seconds=None, precision=None)
    text = bare(folder, ranks={})
    assert not {"ranks", "roc", "klom", "relearning", "knowledge", "distance", "gaps", "notes"} & set(Page(text).ids)
    assert "<svg" not in text and "metrics-oracle" in text


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shutil.rmtree, "there is no audit"),
        (lambda f: (f / "audit.json").unlink(), "half-written"),
        (lambda f: (f / "curves.npz").unlink(), "half-written"),
        (lambda f: (f / "audit.json").write_text("[1]"), "damaged"),
        (lambda f: cut(f / "audit.csv"), "damaged"),
        (lambda f: cut(f / "curves.npz"), "damaged"),
        (lambda f: (f / "ranking.csv").write_text("metric,variant\nklom,closed\n"), "damaged"),
        (lambda f: (f / "audit.csv").write_text(""), "damaged"),
        (lambda f: np.savez(f / "curves.npz", **{"fpr": np.ones(3), "roc/a/oracle": np.ones((3, 2))}), "damaged"),
    ],
)
def test_a_damaged_folder_is_told_in_one_sentence(tmp_path, damage, says):
    folder = fake_audit(tmp_path / "audit")
    damage(folder)
    with pytest.raises(InputError, match=says) as error:
        reports.write_audit_page(folder)
    assert "unlearn-jax audit" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "audit.html").exists()


def test_the_report_links_to_the_audit(tmp_path, monkeypatch):
    run = tmp_path / "run"
    fake_audit(run / "audit")
    assert audit_told(run) == {"fault": "", "lines": []}  # no page yet
    (run / "report.html").write_text("old")
    (run / "manifest.json").write_text("{}")
    study = KINDS["study"]._replace(read=lambda path: path, render=lambda run: str(audit_told(run)))
    monkeypatch.setitem(KINDS, "study", study)
    monkeypatch.setitem(KINDS, "audit", KINDS["audit"]._replace(render=lambda audit, link: f"page, {link}"))
    assert reports.write_audit_page(run / "audit", run) == run / "audit.html"
    told = (run / "report.html").read_text()
    assert "5 of 5 metrics" in told and len(audit_told(run)["lines"]) == 2
    assert (run / "audit.html").read_text() == "page, report.html"
    (run / "audit.html").unlink()
    reports.write_report(run)
    assert (run / "audit.html").exists()
    cut(run / "audit" / "curves.npz")
    reports.write_report(run)
    assert "damaged" in (run / "report.html").read_text()
