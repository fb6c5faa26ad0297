"""The page of an attribution study, on a small synthetic folder of pictures or of texts."""

import csv
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
from made_runs import Page
from pyarrow import parquet

from unlearn_jax import reports
from unlearn_jax.attribution.estimators import ESTIMATORS
from unlearn_jax.attribution.run import TRACKS as KNOWN
from unlearn_jax.errors import InputError
from unlearn_jax.reports import influence_figures as figures
from unlearn_jax.reports.influence_load import MANIFEST, NAMES, TABLES, TRACKS, read_attribution
from unlearn_jax.reports.influence_page import COLUMNS, render_attribution
from unlearn_jax.reports.style import NARROW, WIDE

EVIL = "<b>evil&co"
CLUSTERS = 3
SECTIONS = ["answer", "removal", "estimators", "lds", "carriers", "memorization", "law", "words", "reproduce"]
METRICS = [(removed, metric) for removed, metric, *_ in COLUMNS] + [("target", "own_error"), ("target", "correlation")]


def fake_summary(tracks=("exact", "network"), names=ESTIMATORS):
    """Rows of summary.csv; some negative, some without an interval, some not known."""
    rows, rng = [], np.random.default_rng(0)
    for track in tracks:
        for name in (*names, *(["newton"] if "influence" in names else []), "gradient"):
            for removed, metric in METRICS:
                if (name == "gradient") != (metric == "memorization_correlation") and name not in (
                    "influence",
                    "ekfac",
                ):
                    continue
                if metric in ("own_ratio", "own_error") and not (name == "newton" or ESTIMATORS[name].scaled):
                    continue
                value = float("nan") if (name, metric) == ("cosine", "lds") else rng.normal()
                ends = ("", "") if name == "trak" else (value - 0.1, value + 0.1)
                rows.append((track, removed, name, metric, value, *ends, CLUSTERS))
        rows.append((track, "", "removal", "carried_by_similar", 0.7, 0.6, 0.8, CLUSTERS))
    return rows


def fake_tables(tracks=("exact", "network"), names=ESTIMATORS):
    rng, tables = np.random.default_rng(1), {name: [] for name in TABLES}
    for track in tracks:
        for name in (*names, *(["newton"] if "influence" in names else [])):
            for removed, g, q in [(r, g, q) for r in ("target", "cluster") for g in range(CLUSTERS) for q in range(5)]:
                row = {"track": track, "removed": removed, "estimator": name, "cluster": g, "query": q, "own": g == q}
                error = 0.1 * (track == "network")
                tables["removals"].append(row | {"predicted": rng.random(), "actual": rng.random(), "error": error})
        for name in names:
            parts = dict(zip(("own", "similar", "rest", "recall"), rng.random(4)))
            tables["carriers"] += [{"track": track, "estimator": name, "cluster": g} | parts for g in range(CLUSTERS)]
        for name in ("influence", "ekfac", "gradient"):
            for row, kind in enumerate(["target", "copy", "copy", "rest", "rest", "rest"]):
                found = {"memorization": rng.random(), "error": 0.1, "score": rng.random()}
                tables["memorization"].append({"track": track, "estimator": name, "row": row, "kind": kind} | found)
    for model, g, m in [
        (model, g, m) for model in ("ridge", "softmax") for g in range(CLUSTERS) for m in (0, 1, 8, 32)
    ]:
        effect = (-1) ** g / (m + 1.0) ** 2
        law = effect if model == "ridge" else np.nan
        tables["law"].append({"cluster": g, "copies": m, "model": model, "effect": effect, "law": law})
    return tables


def fake_gallery(texts=False):
    """Two targets with four helpful examples each."""
    rng = np.random.default_rng(2)
    held = {
        "target": np.array([3, 5]), "rows": np.arange(8).reshape(2, 4), "scores": rng.normal(size=(2, 4)),
        "own": np.array([[True, True, False, False]] * 2), "labels": np.array([[0, 1, 0, 1]] * 2),
        "class_names": np.array(["plain", EVIL]), "estimator": np.array("influence"), "track": np.array("exact"),
    }  # fmt: skip
    if texts:
        said = np.array([f"document {i} of <script> & more" for i in range(8)]).reshape(2, 4)
        return held | {"texts": said, "texts_target": np.array(["first <i>target", "second target"])}
    return held | {"images": rng.random((2, 4, 6, 6, 1)), "images_target": rng.random((2, 6, 6, 1))}


def fake_run(folder, texts=False, tracks=("exact", "network"), names=ESTIMATORS, copies=2, **manifest):
    folder.mkdir(parents=True)
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("track", "removed", "estimator", "metric", "value", "ci_low", "ci_high", "n"))
        writer.writerows(fake_summary(tracks, names))
    for name, rows in fake_tables(tracks, names).items():
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    np.savez(folder / "gallery.npz", **fake_gallery(texts))
    told = {
        "kind": "attribution",
        "command": "python experiments/influence.py --dataset <i>x</i>",
        "config": {
            "dataset": f"/somewhere/{EVIL}.tsv" if texts else "digits", "copies": copies, "similarity": "near",
            "subsets": 16, "repeats": 2,
        },
        "examples": {"train": 86, "queries": 9, "clusters": CLUSTERS},
        "accuracy": {track: 0.875 for track in tracks},
        "training_seconds": {"exact": {}, "network": {"halves": 1.25}},
        "estimators": {name: ESTIMATORS[name].about for name in names},
        "solving": {"exact": {"solver": "explicit", "damping": 0.0}},
        "seconds": {track: {name: 0.5 for name in names} for track in tracks},
        "seconds_total": 12.5,
        "versions": {"jax": "0.10.2"},
        "device": "cpu, 2 cores",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(told | manifest))
    return folder


def tables_of(page):
    """The tables of estimators, each a list of rows."""
    heads = [number for number, row in enumerate(page.rows) if row[0] == "Estimator"]
    return [page.rows[at:end] for at, end in zip(heads, [*heads[1:], None])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def text(folder):
    out = reports.write_influence_page(folder)
    assert out == folder / "influence.html"
    return out.read_text(encoding="utf-8")


def test_has_every_section_and_needs_no_network(text):
    found = Page(text)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    assert len(found.ids) == len(set(found.ids))
    assert not found.tags & {"script", "link", "iframe", "object", "i", "b"}
    assert not re.search(r'(src|href)="(?!#|data:image/png;base64,)', text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    assert text.count("<svg") == 2 * 4 and text.count("<img") == 2 * 5


def shown(value, digits):
    told = f"{float(value):.{digits}f}"
    return told.replace("-", "−") if float(told) else told.replace("-", "")


def test_every_number_of_the_tables_is_that_of_the_summary(folder, text):
    with (folder / "summary.csv").open(newline="") as file:
        rows = {(r["track"], r["removed"], r["estimator"], r["metric"]): r for r in csv.DictReader(file)}
    tables, counted = tables_of(Page(text)), 0
    assert len(tables) == 2
    for track, table in zip(("exact", "network"), tables):
        assert table[0] == ["Estimator", *(heading for *_, heading, _ in COLUMNS)]
        cells = {row[0]: [cell.strip() for cell in row[1:]] for row in table[1:]}
        order = list(ESTIMATORS)
        assert list(cells) == [NAMES[n] for n in ("influence", "newton", *order[1:], "gradient", "removal")]
        for name, label in NAMES.items():
            for (removed, metric, _, digits), cell in zip(COLUMNS, cells[label]):
                row = rows.get((track, removed, name, metric))
                if row is None or row["value"] == "nan":
                    assert cell == ""
                    continue
                ends = [f"{float(row[k]):.{digits}f}".replace("-", "−") for k in ("ci_low", "ci_high") if row[k]]
                assert cell == (f"{shown(row['value'], digits)} " + (f"[{', '.join(ends)}]" if ends else "")).strip()
                counted += 1
    told = {(removed, metric) for removed, metric, *_ in COLUMNS}
    assert counted == sum((k[1], k[3]) in told and r["value"] != "nan" for k, r in rows.items()) > 100


def test_every_estimator_and_track_has_a_name():
    assert set(NAMES) == {*ESTIMATORS, "newton", "gradient", "removal"} and set(TRACKS) == set(KNOWN)


def test_the_answer_quotes_the_summary(folder, text):
    run = read_attribution(folder)
    quoted = [("target", "influence", "own_ratio"), ("cluster", "influence", "own_ratio")]
    quoted += [("cluster", "newton", "own_ratio")]
    for removed, name, metric in quoted:
        found = run.find("exact", removed, name, metric)
        assert f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]".replace("-", "−") in text
    assert 'id="answer">On softmax regression, influence functions predict' in text


def test_names_and_texts_are_escaped(text, tmp_path, unsaved):
    assert "&lt;b&gt;evil&amp;co" in text and "<b>evil" not in text and "--dataset &lt;i&gt;x&lt;/i&gt;" in text
    words = render_attribution(read_attribution(fake_run(tmp_path / "run", texts=True)))
    assert not Page(words).tags & {"script", "i", "b", "img"}
    held = fake_gallery(texts=True)
    for said in (*held["texts"].ravel(), *held["texts_target"]):
        assert str(said).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in words
    assert words.count('class="item text own"') == 4 and words.count('class="item text"') == 2 + 4
    assert "<h1>Influence predicted and measured: &lt;b&gt;evil&amp;co.tsv</h1>" in words and "/somewhere" not in words


@pytest.mark.slow
def test_the_page_is_the_same_each_time(folder, text):
    assert render_attribution(read_attribution(folder)) == text


def test_figures_for_narrow_screens_have_fewer_columns(folder):
    run = read_attribution(folder)
    columns = lambda draw, width: len({round(a.get_subplotspec().colspan.start) for a in draw(run, width).axes})
    seen = {draw.__name__: (columns(draw, WIDE), columns(draw, NARROW)) for draw in (
        figures.removal_figure, figures.score_figure, figures.law_figure, figures.memory_figure
    )}  # fmt: skip
    assert seen == {"removal_figure": (4, 2), "score_figure": (2, 1), "law_figure": (2, 1), "memory_figure": (2, 1)}


def test_figures_draw_what_the_tables_say(folder):
    run = read_attribution(folder)
    at = figures.removal_figure(run).axes[1]
    rows = run.rows("removals", track="exact", removed="cluster", estimator="influence", own=True)
    (dots,) = [line for line in at.lines if line.get_label() == "influence function"]
    np.testing.assert_array_equal(dots.get_xydata(), np.stack([rows["actual"], rows["predicted"]], axis=1))
    assert not at.collections and figures.removal_figure(run).axes[3].collections  # intervals of networks alone
    ridge = figures.law_figure(run).axes[0]
    dots = [line.get_ydata() for line in ridge.lines if line.get_marker() == "o"]
    assert len(dots) == CLUSTERS and all((y > 0).all() for y in dots)  # also where the effect is negative
    memory = figures.memory_figure(run).axes[0]
    drawn = np.sort(np.concatenate([line.get_xdata() for line in memory.lines]))
    scores = run.rows("memorization", track="exact", estimator="ekfac")["score"]
    np.testing.assert_allclose(drawn, np.sort(np.maximum(scores, 1e-5 * scores.max())))


def test_runs_of_less_have_less(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", tracks=("network",), names=("trak", "datamodel"), copies=0)
    (run / "law.parquet").unlink()
    (run / "memorization.parquet").unlink()
    page = render_attribution(read_attribution(run))
    left = ["answer", "estimators", "lds", "carriers", "words", "reproduce"]
    assert [i for i in Page(page).ids if i in SECTIONS] == left
    assert "Influence as gradients predict it, against what removal really does." in page and "nan" not in page.lower()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewritten(folder, **changes):
    path = folder / "manifest.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (told | changes).items() if v is not None}))


def regalleried(folder, **changes):
    held = fake_gallery() | changes
    np.savez(folder / "gallery.npz", **{k: v for k, v in held.items() if v is not None})


HEAD = "track,removed,estimator,metric,value,ci_low,ci_high,n\n"
DAMAGE = {
    "gone": shutil.rmtree,
    **{f"no {name}": lambda f, n=name: (f / n).unlink() for name in ("manifest.json", "summary.csv", "gallery.npz")},
    **{f"cut {name}": lambda f, n=name: cut(f / n) for name in ("manifest.json", "summary.csv", "removals.parquet")},
    "a list": lambda f: (f / "manifest.json").write_text("[1]"),
    "another kind": lambda f: rewritten(f, kind="audit"),
    **{f"no {name}": lambda f, name=name: rewritten(f, **{name: None}) for name in MANIFEST},
    "half a config": lambda f: rewritten(f, config={"dataset": "digits"}),
    "empty summary": lambda f: (f / "summary.csv").write_text(""),
    "no rows": lambda f: (f / "summary.csv").write_text(HEAD),
    "words for numbers": lambda f: (f / "summary.csv").write_text(HEAD + "exact,half,trak,lds,high,0,1,3\n"),
    "another table": lambda f: parquet.write_table(pa.table({"track": ["exact"]}), f / "law.parquet"),
    "cut gallery": lambda f: cut(f / "gallery.npz"),
    "empty gallery": lambda f: (f / "gallery.npz").write_bytes(b""),
    "fewer scores": lambda f: regalleried(f, scores=np.ones((2, 3))),
    "no pictures": lambda f: regalleried(f, images=None),
    "no labels": lambda f: regalleried(f, labels=None),
    "unknown class": lambda f: regalleried(f, labels=np.full((2, 4), 2)),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_told_in_one_sentence(folder, tmp_path, case):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / "influence.html").unlink(missing_ok=True)
    DAMAGE[case](copy)
    with pytest.raises(InputError, match="unlearn-jax influence") as error:
        reports.write_influence_page(copy)
    assert "\n" not in str(error.value) and not (copy / "influence.html").exists()
