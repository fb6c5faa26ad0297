"""A search for similar samples: its folder read, its sentences, its figures and its page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.reports.panels import sheet, styled
from unlearn_jax.reports.reading import columns_of, gallery_of, opened
from unlearn_jax.reports.render import Item, Table, data_name, drawn, facts, made, number, page, readable, row, table
from unlearn_jax.reports.style import WIDE, colour, png_uri, small

ENTRIES = (
    "config", "embedding", "nouns", "samples", "linked", "pairs", "pairs_same_label", "clusters",
    "clusters_of_one_label", "largest", "sizes", "test", "ladder", "targets", "notes",
)  # fmt: skip
COLUMNS = ("kind", "block", "number", "size", "split", "id", "label", "similarity")
MAX_NAMED = 20  # targets without a neighbour that are named
MEASURES = {"cosine": "cosine", "jaccard": "Jaccard index"}
GALLERIES = (  # kind, heading, caption
    ("target", "Targets", "First: a target. After it: its nearest training samples, near or not."),
    ("largest", "Largest clusters", "First: the sample with most links. After it: those of its cluster most like it."),
    ("mixed", "Clusters of several labels", "The largest clusters whose samples are not of one label."),
    ("test", "Test samples near training samples",
     "First: the test samples nearest to the training set. After each: its training neighbours."),
)  # fmt: skip


class Search(NamedTuple):
    """Everything that the page shows."""

    path: Path
    told: dict[str, Any]  # neighbours.json
    gallery: dict[str, np.ndarray]
    nearest: dict[str, np.ndarray]  # by split, how near each sample's nearest training sample is, where it is known


def read_search(folder: Path) -> Search:
    """Read the folder; raises `InputError` where it is missing, half-written or damaged."""
    folder = Path(folder)
    with opened(folder, "neighbours", ENTRIES) as manifest:
        measure = manifest["embedding"]["measure"]
        train = columns_of(folder / "clusters.parquet", [measure])[measure]
        nearest = columns_of(folder / "neighbours.parquet", ["split", "rank", measure])
        test = nearest[measure][(nearest["split"] == "test") & (nearest["rank"] == 1)]
        near = {"train": train[np.isfinite(train)], "test": test}
        return Search(folder, manifest, _gallery(folder / "gallery.npz"), near)


def _gallery(path: Path) -> dict[str, np.ndarray]:
    """The samples shown, pictures as uint8."""
    held = gallery_of(path)
    shown = held.get("images", held.get("texts"))
    whole = set(COLUMNS) | {"class_names"} <= set(held)
    if shown is None or not whole or any(len(held[name]) != len(shown) for name in COLUMNS):
        raise ValueError("gallery.npz holds arrays that do not belong together")
    if len(shown) and not 0 <= held["label"].min() <= held["label"].max() < len(held["class_names"]):
        raise ValueError("gallery.npz holds labels without a name")
    return held


def render_search(search: Search) -> str:
    """The whole page as one HTML document."""
    manifest, drawings = search.told, drawings_of(search)
    lead, *rest = findings(manifest)
    return page(
        "neighbours.html",
        title=f"Similar samples: {data_name(manifest['config']['dataset'])}",
        answer=lead,
        facts=facts(_facts(manifest)),
        findings=rest,
        notes=[f"{note[:1].upper()}{note[1:]}." for note in manifest["notes"]],
        ladder=_ladder(manifest),
        measure=MEASURES[manifest["embedding"]["measure"]],
        nearest=drawn(drawings["nearest"], "nearest", "How near the nearest training sample is"),
        sizes=drawn(drawings["sizes"], "sizes", "Sizes of the clusters"),
        galleries=[(*gallery, _blocks(search.gallery, gallery[0])) for gallery in GALLERIES],
        made=made(
            manifest | {"notes": []},
            manifest["config"],
            Seconds_to_embed_and_search=number(manifest.get("seconds_searching"), 1),
        ),
    )


def drawings_of(search: Search) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    return {"nearest": partial(nearest_figure, search), "sizes": partial(sizes_figure, search)}


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """The setting of the search."""
    config = manifest["config"]
    return {
        "Data": data_name(config["dataset"]),
        "Alike by": f"{config['embedding']}: {manifest['embedding']['about']}",
        "Threshold": f"{MEASURES[manifest['embedding']['measure']]} {config['threshold']:g}",
        "Links": f"mutual among the {config['k']} nearest" if config["mutual"] else "every pair at the threshold",
        f"Training {manifest['nouns']}": f"{manifest['samples']:,}",
        f"Test {manifest['nouns']}": f"{manifest['test']['samples']:,}" if manifest["test"] else None,
        "Clusters": f"{manifest['clusters']:,}",
    }


def _ladder(manifest: dict[str, Any]) -> Table:
    """How many samples have a neighbour at each threshold."""
    both, same = manifest["test"] is not None, "nearest of the same label"
    heads = [f"training {manifest['nouns']} with a neighbour", same]
    heads += [f"test {manifest['nouns']} with a training neighbour", same] if both else []
    rows = []
    for rung in manifest["ladder"]:
        cells = []
        for split in ("train", "test") if both else ("train",):
            share = rung[f"{split}_same_label"]
            cells += [f"{rung[split]:,}", percent(share) if share is not None else ""]
        rows.append(row(f"{rung['threshold']:g}", cells))
    return table(f"{MEASURES[manifest['embedding']['measure']]} at least", heads, rows)


@styled
def nearest_figure(search: Search, width: float = WIDE):
    """A histogram of the cosine of each training sample with the nearest other one."""
    figure, grid = sheet(width, 2.6)
    axes = grid[0, 0]
    values = search.nearest["train"]
    threshold, measure = search.told["config"]["threshold"], MEASURES[search.told["embedding"]["measure"]]
    low = min(values.min(initial=1.0), threshold, 0.99)
    axes.hist(np.clip(values, low, 1.0), bins=np.linspace(low, 1.0, 61), color=colour("retrain"), log=True)
    if threshold > 0:
        axes.axvline(threshold, color=colour("ink"), linestyle="--", linewidth=1)
    axes.set_xlabel(f"{measure} with the nearest training sample")
    axes.set_ylabel(f"training {search.told['nouns']}")
    return figure


@styled
def sizes_figure(search: Search, width: float = WIDE):
    """Bars of how many clusters have each size; many sizes are drawn in bins that double."""
    figure, grid = sheet(width, 2.6)
    axes = grid[0, 0]
    sizes, counts = np.asarray(search.told["sizes"], np.int64).reshape(-1, 2).T
    if sizes.max(initial=2) > 24:
        edges = 2 ** np.arange(1, int(np.ceil(np.log2(sizes.max() + 1))) + 1)
        counts = np.histogram(sizes, bins=edges, weights=counts)[0].astype(np.int64)
        names = [f"{a}" if b - a == 1 else f"{a} to {b - 1}" for a, b in zip(edges[:-1], edges[1:])]
    else:
        by_size = dict(zip(sizes.tolist(), counts.tolist()))
        names = [str(size) for size in range(2, int(sizes.max(initial=2)) + 1)]
        counts = np.asarray([by_size.get(int(name), 0) for name in names])
    axes.bar(names, counts, color=colour("retrain"), width=0.8)
    for place, count in enumerate(counts.tolist()):
        if count:
            axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=small())
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 2.5 * max(counts.max(initial=1), 1))
    axes.set_xlabel(f"{search.told['nouns']} in a cluster")
    axes.set_ylabel("clusters")
    return figure


def _blocks(held: dict[str, Any], kind: str) -> list[tuple[str, list[Item]]]:
    """The samples of one kind, a row for each block, and what is said of it."""
    mine, blocks = held["kind"] == kind, []
    for block in np.unique(held["block"][mine]):
        rows = np.flatnonzero(mine & (held["block"] == block))
        size, first = int(held["size"][rows[0]]), held["id"][rows[0]]
        lead = {"target": f"target {first}, ", "test": f"test {first}, nearest "}.get(kind, "")
        inside = "in a cluster" if kind in ("target", "test") else "cluster"
        caption = f"{lead}{inside} of {size:,}" if size > 1 else f"{lead}in no cluster"
        caption += f", {len(rows)} shown" if kind in ("largest", "mixed") and size > len(rows) else ""
        blocks.append((caption, [_item(held, line, place) for place, line in enumerate(rows.tolist())]))
    return blocks


def _item(held: dict[str, Any], line: int, place: int) -> Item:
    """One sample: its picture or words, its label, how alike it is to the first, its id."""
    label, split = str(held["class_names"][int(held["label"][line])]), str(held["split"][line])
    alike = "" if place == 0 else f"{float(held['similarity'][line]):.3f}"
    title = ", ".join(part for part in (f"{split} {held['id'][line]}", label, alike) if part)
    if "images" in held:
        return Item(
            below=f"{label}\n{alike or split}", title=title, picture=png_uri(held["images"][line]), own=place == 0
        )
    return Item(text=readable(held["texts"][line]), title=title, own=place == 0)


def findings(search: dict[str, Any]) -> list[str]:
    """What was found, a sentence each."""
    nouns, threshold = search["nouns"], search["config"]["threshold"]
    measure = MEASURES[search["embedding"]["measure"]]
    how = "among each other's nearest" if search["config"]["mutual"] else "linked"
    lines = [
        f"{search['linked']:,} of {search['samples']:,} training {nouns} are in {plural(search['clusters'], 'cluster')}"
        f" of two or more, {how} at a {measure} of {threshold:g} or more; the largest has {search['largest']:,}.",
        f"{percent(search['pairs_same_label'])} of the {plural(search['pairs'], 'linked pair')} are of one label, and "
        f"so are {percent(search['clusters_of_one_label'])} of the clusters.",
    ]
    if search["test"]:
        test = search["test"]
        same = f" ({percent(test['same_label'])} of its label)" if test["near"] else ""
        has, which = "has" if test["near"] == 1 else "have", "is" if test["clusters"] == 1 else "are"
        lines.append(
            f"{test['near']:,} of {test['samples']:,} test {nouns} {has} a training neighbour{same}; "
            f"{plural(test['clusters'], 'cluster')} of training {nouns} {which} nearest to some."
        )
    return lines + targets_said(search)


def targets_said(search: dict[str, Any]) -> list[str]:
    """Which of the targets asked about have neighbours and which have none."""
    targets = search["targets"]
    if not targets:
        return []
    alone = [target for target in targets if not target["near"]]
    near = len(targets) - len(alone)
    lines = [f"{near} of {plural(len(targets), 'target')} {'has' if near == 1 else 'have'} a neighbour."]
    if alone:
        named = ", ".join(
            f"{target['id']}" + (f" (nearest {target['similarity']:.3f})" if target["similarity"] is not None else "")
            for target in alone[:MAX_NAMED]
        )
        more = f" and {len(alone) - MAX_NAMED} others" if len(alone) > MAX_NAMED else ""
        lines.append(f"Without a neighbour: {named}{more}.")
    return lines


def plural(count: int, noun: str) -> str:
    """1 cluster, 2 clusters."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share in whole percent, and not 100% unless it is."""
    if share is None:
        return "none"
    return f"{100 * share:.0f}%" if share in (0, 1) or 0.005 <= share < 0.995 else f"{100 * share:.1f}%"
