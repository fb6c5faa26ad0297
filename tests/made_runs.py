"""Run folders that no run wrote, and a reader of pages."""

import csv
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

MEMBERS, TARGETS = 32, 30

KEYS = ("dataset", "model", "targets", "similarity", "copies", "gamma", "request", "method", "remedy")
KEYS += ("setting", "budget", "reference", "split", "metric")
NUMBERS = ("value", "ci_low", "ci_high", "ci_members_low", "ci_members_high", "n")
COLUMNS = KEYS + NUMBERS
REFERENCES = ("original", "retrain", "oracle", "placebo", "dedup")
# method -> (signed residual, residual distance, excess price on similar, rest, test), as shares of retrain's
METHODS = {
    "finetune": (1.08, 1.06, -62.0, -0.1, 0.1),
    "gradient_ascent": (-1.9, 2.4, 14.0, 9.3, 11.2),
    "neggrad_plus": (0.22, 0.61, 3.1, 0.6, 1.4),
    "random_label": (0.35, 0.74, -8.0, 0.9, 1.8),
    "scrub": (0.62, 0.78, -31.0, 0.2, 0.5),
    "do_nothing": (1.0, 1.0, -68.0, -0.2, -0.1),
}


def fake_rows(levels, methods, diverged="random_label"):
    """Rows of a summary with plausible values, deterministic."""
    rng = np.random.default_rng(0)
    rows = []

    def put(level, method, metric, mean, half=0.0, split="", reference="", n=MEMBERS):
        keys = {
            "dataset": "digits",
            "model": "mlp",
            "targets": "atypical",
            "similarity": "near",
            "request": "all",
        }
        values = [mean, mean - half, mean + half, mean - half / 2, mean + half / 2, n]
        keys |= {
            "copies": level,
            "gamma": 1 / (level + 1),
            "method": method,
            "split": split,
            "metric": metric,
        }
        rows.append(keys | {"reference": reference} | dict(zip(NUMBERS, values)))

    for level in levels:
        kept = {0: 0.021, 1: 0.601, 4: 0.812, 8: 0.928}[level]
        residual = {"original": (1.0, 1.0), "oracle": (0.0, 0.0), "retrain": (kept, kept + 0.01)}
        residual |= {"placebo": (kept * 0.975, kept), "dedup": (kept * 0.3, kept * 0.33)}
        residual |= {name: (kept * a if level else 0.4 * a, kept * b + 0.1) for name, (a, b, *_) in methods.items()}
        residual |= {"do_nothing": (1.0, 1.0)} if "do_nothing" in methods else {}
        for method, (signed, distance) in residual.items():
            half = 0.0 if method == "original" else 0.035 + 0.02 * rng.random()
            if method != "oracle":
                put(level, method, "residual_influence", signed, half, "forget", "oracle")
                put(level, method, "residual_distance", distance, half, "forget", "oracle")
                if method != "retrain":
                    put(level, method, "residual_difference", signed - kept, 0.02, "forget", "retrain")
                    put(level, method, "distance_difference", distance - kept, 0.02, "forget", "retrain")
            if method in methods and method != "do_nothing":
                rank = sorted(methods, key=lambda m: methods[m][1]).index(method) + 1
                put(level, method, "distance_rank", rank, 0.5, "forget", "oracle")
            price = methods.get(method, (0, 0, -60.0 * kept if method != "oracle" else 0.0, 0.1, 0.2))[2:]
            for split, value in zip(("similar", "rest", "test"), price):
                if method != "oracle":
                    put(level, method, "price_accuracy", value, 0.4, split, "oracle")
            for split, value in {
                "forget": 0.3 + 0.7 * kept,
                "similar": 0.27,
                "test_similar": 0.4,
                "test": 0.981,
            }.items():
                extra = -price[0] / 100 if split == "similar" else 0.0
                put(level, method, "accuracy", value + extra, 0.01, split)
            put(level, method, "n_diverged", 3.0 if method == diverged else 0.0)
            put(level, method, "seconds", 0.62 if method in REFERENCES else 0.11)
            put(level, method, "grad_evals_forget", 0.0 if method in REFERENCES else 3_000.0)
            put(level, method, "grad_evals_retain", 153_600.0 if method in REFERENCES else 24_000.0)
        put(level, "original", "influence_span", 7.4, 0.9, "forget", "oracle")
        for name, value in (("null_band", 0.31), ("null_band_ratio", 0.042), ("identifiable", 1.0)):
            put(level, "oracle", name, value, split="forget", reference="oracle")
        put(level, "dedup", "dedup_recall", 0.71)
        put(level, "original", "similarity_pixel", 0.93)
    return rows


def write_rows(run, rows):
    """Write summary.csv."""
    with (run / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def fake_run(run, levels=(0, 1, 4, 8), methods=METHODS):
    """A complete run folder with plausible values."""
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(1)
    (run / "margins").mkdir(parents=True)
    write_rows(run, fake_rows(levels, methods))
    spread = {"mean": 0.93, "q05": 0.81, "q50": 0.94, "q95": 0.99}
    manifest = {
        "command": "python experiments/study.py --dataset digits --copies 0,1,4,8",
        "config": {"dataset": "digits", "members": MEMBERS, "num_targets": TARGETS, "requests": 1, "seed": 7},
        "versions": {"python": "3.11.2", "jax": "0.10.2", "flax": "0.12.0"},
        "device": "cpu, 2 cores",
        "git_commit": "0123abcd",
        "started": "2025-01-01T10:00:00",
        "finished": "2025-01-01T10:03:20",
        "seconds_total": 200.4,
        "compile_seconds": 31.2,
        "status": "complete",
        "similarity": {str(m): {"pixel": spread, "embedding": spread} for m in levels if m},
        "notes": ["equal steps along the axes"],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    index = {"row": list(range(2 * TARGETS)), "split": ["forget"] * TARGETS + ["rest"] * TARGETS}
    parquet.write_table(pyarrow.table(index | {"request": ["0"] * 2 * TARGETS}), run / "margins/index.parquet")
    parquet.write_table(pyarrow.table({"method": ["retrain"], "value": [0.0]}), run / "results.parquet")
    for name, centre in zip(REFERENCES, (6.0, 4.6, -1.4, 4.5, 1.1)):
        values = centre + rng.normal(0, 1.6, (1, 2 * TARGETS)) + rng.normal(0, 1.2, (MEMBERS, 2 * TARGETS))
        np.save(run / "margins" / f"{name}.npy", values.astype(np.float32))
    copies = max(levels)
    source = rng.random((6, 1, 8, 8, 1)).astype(np.float32)
    images = np.concatenate([source, np.clip(source + rng.normal(0, 0.1, (6, copies, 8, 8, 1)), 0, 1)], 1)
    np.savez(run / "gallery.npz", images=images.astype(np.float32), labels=np.arange(6), class_names=list("012345"))
    return run


class Page(HTMLParser):
    """Ids, tags and table rows (as lists of cell texts, and of their classes) of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.rows, self.kinds, self.depth = [], set(), [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
            self.kinds.append([])
        self.depth += tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.kinds[-1].append(dict(attrs).get("class", ""))
        elif self.depth and tag in ("span", "br"):
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag):
        self.depth -= tag in ("td", "th")

    def handle_data(self, data):
        if self.depth:
            self.rows[-1][-1] += data


def section_of(text, name):
    """One section of a page, parsed."""
    section = text[text.index(f'<section id="{name}"') :]
    return Page(section[: section.index("</section>")])


def table(text):
    """The methods table: population -> cells."""
    rows = section_of(text, "methods").rows
    return {row[0].split()[0]: [" ".join(cell.split()) for cell in row[1:]] for row in rows if len(row) == 17}


def edit(run, change):
    """Rewrite summary.csv with `change(row) -> row or None`."""
    with (run / "summary.csv").open(newline="") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    write_rows(run, [row for row in rows if row])


VOID = {"meta", "br", "wbr", "img", "input", "link"}


class Anchors(HTMLParser):
    """Ids, inner links, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name == "href" and tag == "a"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def sound(text):
    """The parsed page, whose ids are unique, links resolve and tags are closed."""
    found = Anchors(text)
    assert len(found.ids) == len(set(found.ids)) and not found.wrong and not found.open
    inner = [link[1:] for link in found.links if link.startswith("#")]
    assert inner and set(inner) <= set(found.ids)
    return found


def change(run, **changes):
    """Rewrite entries of the manifest; config options with a leading underscore."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["config"] |= {name[1:]: value for name, value in changes.items() if name[0] == "_"}
    manifest |= {name: value for name, value in changes.items() if name[0] != "_"}
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def unsaved(monkeypatch):
    """Figures are drawn but not written out as SVG, which is most of a page's time: for tests of words and tables."""
    monkeypatch.setattr("unlearn_jax.reports.render.inline_svg", lambda *given: Markup("<svg></svg>"))
