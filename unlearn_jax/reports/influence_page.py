"""The page of an attribution study: what its template shows, as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from unlearn_jax.reports import influence_figures as figures
from unlearn_jax.reports.influence_load import NAMES, TRACKS, Attribution
from unlearn_jax.reports.render import (
    Item,
    Table,
    data_name,
    drawn,
    facts,
    figure_cell,
    inline,
    made,
    number,
    page,
    readable,
    row,
    table,
)
from unlearn_jax.reports.style import png_uri
from unlearn_jax.reports.words import plain

COLUMNS = (  # removed, metric, heading, digits
    ("target", "own_ratio", "one removed: predicted / actual", 2),
    ("cluster", "own_ratio", "cluster removed: predicted / actual", 2),
    ("cluster", "own_error", "cluster removed: relative error", 2),
    ("cluster", "correlation", "cluster removed: correlation, all queries", 2),
    ("half", "lds", "LDS", 3),
    ("", "carried_by_similar", "carried by similar", 2),
    ("", "similar_found", "similar found", 2),
    ("", "memorization_correlation", "self-influence with memorization", 2),
)


DRAWINGS = {
    "removal": figures.removal_figure,
    "lds": figures.score_figure,
    "memorization": figures.memory_figure,
    "law": figures.law_figure,
}
HEADINGS = {
    "removal": "Removal: predicted against actual",
    "lds": "Linear datamodelling score",
    "memorization": "Self-influence against memorization",
    "law": "Deleting one of many copies",
}


def render_attribution(run: Attribution) -> str:
    """The whole page as one HTML document."""
    manifest = run.manifest
    return page(
        "influence.html",
        title=f"Influence predicted and measured: {data_name(manifest['config']['dataset'])}",
        answer=headline(run),
        facts=facts(_facts(run)),
        tables=[(TRACKS[track].capitalize(), _table(run, track)) for track in run.tracks],
        gallery=_gallery(run.gallery),
        headings=HEADINGS,
        figures={name: drawn(draw, name, HEADINGS[name]) for name, draw in drawings_of(run).items()},
        made=made(
            manifest,
            Training=_seconds(manifest["training_seconds"]),
            Estimators=_seconds(manifest["seconds"]),
            Curvature=inline(manifest.get("solving")),
        ),
    )


def headline(run: Attribution) -> str:
    """What the run shows first of all."""
    track = run.tracks[0]
    one = run.find(track, "target", "influence", "own_ratio")
    many = run.find(track, "cluster", "influence", "own_ratio")
    newton = run.find(track, "cluster", "newton", "own_ratio")
    if math.isnan(many.value) or math.isnan(newton.value):
        return "Influence as gradients predict it, against what removal really does."
    return (
        f"On {TRACKS[track]}, influence functions predict {plain(one)} of what removing a target does to it, and their "
        f"sum {plain(many)} of what removing its whole cluster does. With the cluster's own curvature taken out: "
        f"{plain(newton)}."
    )


def drawings_of(run: Attribution) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    return {name: partial(draw, run) for name, draw in DRAWINGS.items()}


def _facts(run: Attribution) -> dict[str, Any]:
    """The setting of the run."""
    config, examples = run.manifest["config"], run.manifest["examples"]
    return {
        "Data": data_name(config["dataset"]),
        "Training examples": examples["train"],
        "Clusters": f"{examples['clusters']} targets with {config['copies']} {config['similarity']} copies each",
        "Queries": examples["queries"],
        "Subsets": config["subsets"],
        "Networks without each": config["repeats"] if "network" in run.tracks else None,
        "Accuracy": ", ".join(f"{TRACKS[t]} {100 * a:.1f}%" for t, a in run.manifest["accuracy"].items()),
    }


def _table(run: Attribution, track: str) -> Table:
    """Estimators of one track by what they were asked."""
    names = [*run.estimators, "gradient", "removal"]
    columns = [c for c in COLUMNS if any(math.isfinite(run.find(track, c[0], n, c[1]).value) for n in names)]
    rows = []
    for name in names:
        estimates = [run.find(track, removed, name, metric) for removed, metric, *_ in columns]
        if any(math.isfinite(one.value) for one in estimates):
            rows.append(row(NAMES[name], [figure_cell(one, digits) for one, (*_, digits) in zip(estimates, columns)]))
    return table("Estimator", [heading for *_, heading, _ in columns], rows)


def _gallery(held: dict) -> dict[str, Any] | None:
    """Some targets with the examples that help them most."""
    if not held:
        return None
    of_target = lambda k: (
        Item(below="target", title="target", picture=png_uri(held["images_target"][k]))
        if "images_target" in held
        else Item(text=readable(held["texts_target"][k]), first=True)
    )
    blocks = [
        [of_target(k), *(_item(held, k, i) for i in range(held["rows"].shape[1]))] for k in range(len(held["target"]))
    ]
    return {"estimator": NAMES[str(held["estimator"])], "track": TRACKS[str(held["track"])], "blocks": blocks}


def _item(held: dict, k: int, i: int) -> Item:
    """One helpful example with its score."""
    label, score = str(held["class_names"][int(held["labels"][k, i])]), number(float(held["scores"][k, i]))
    own = bool(held["own"][k, i])
    if "images" in held:
        return Item(below=f"{label}\n{score}", title=label, picture=png_uri(held["images"][k, i]), own=own)
    return Item(text=readable(held["texts"][k, i]), title=f"{label}, {score}", own=own)


def _seconds(seconds: dict) -> str:
    """Seconds by track and name in one line."""
    shown = lambda times: {name: f"{value:.1f} s" for name, value in times.items()}
    return inline({track: shown(times) for track, times in seconds.items() if times})
