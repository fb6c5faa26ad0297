"""The page of a search for similar samples: its frame and its sections in order; every text is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from unlearn_jax.reports import neighbours_words as words
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.neighbours_load import Search
from unlearn_jax.reports.provenance import BELOW
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import readable, section
from unlearn_jax.reports.style import WIDE, colour, png_uri, settings, small

GALLERIES = (  # kind, heading, caption
    ("target", "Targets", "First: a target. After it: its nearest training samples, near or not."),
    ("largest", "Largest clusters", "First: the sample with most links. After it: those of its cluster most like it."),
    ("mixed", "Clusters of several labels", "The largest clusters whose samples are not of one label."),
    ("test", "Test samples near training samples",
     "First: the test samples nearest to the training set. After each: its training neighbours."),
)  # fmt: skip


def render_search(search: Search) -> str:
    """The whole page as one HTML document."""
    title = f"Similar samples: {_dataset(search)}"
    told = search.told
    lead, *rest = words.findings(told)
    found = "".join(f"<p>{escape(line)}</p>" for line in rest) + _notes(told)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(lead)}</p>',
        facts_strip(_facts(search)),
        section("found", "What was found", found),
        section("thresholds", "At other thresholds", _ladder(told) + _figures(search)),
        *(section(kind, heading, _blocks(search, kind, caption)) for kind, heading, caption in GALLERIES),
        section("words", "How to read this", definitions(words.WORDS)),
        section("reproduce", "To reproduce", _reproduction(told)),
    ]
    return document(title, parts)


def _dataset(search: Search) -> str:
    """The data set, of a file the name alone."""
    return Path(str(search.told["config"]["dataset"])).name


def _facts(search: Search) -> dict[str, str]:
    """The setting of the search."""
    told, config = search.told, search.told["config"]
    return {
        "Data": _dataset(search),
        "Alike by": f"{config['embedding']}: {told['embedding']['about']}",
        "Threshold": f"{words.MEASURES[told['embedding']['measure']]} {config['threshold']:g}",
        "Links": f"mutual among the {config['k']} nearest" if config["mutual"] else "every pair at the threshold",
        f"Training {told['nouns']}": f"{told['samples']:,}",
        f"Test {told['nouns']}": f"{told['test']['samples']:,}" if told["test"] else None,
        "Clusters": f"{told['clusters']:,}",
    }


def _notes(told: dict) -> str:
    """What the search left out."""
    return "".join(f'<p class="small">{escape(note[:1].upper() + note[1:])}.</p>' for note in told["notes"])


def _ladder(told: dict) -> str:
    """How many samples have a neighbour at each threshold."""
    both = told["test"] is not None
    heads = [f"training {told['nouns']} with a neighbour", "nearest of the same label"]
    heads += [f"test {told['nouns']} with a training neighbour", "nearest of the same label"] if both else []
    rows = []
    for rung in told["ladder"]:
        cells = []
        for split in ("train", "test") if both else ("train",):
            share = rung[f"{split}_same_label"]
            cells += [f"{rung[split]:,}", words.percent(share) if share is not None else ""]
        said = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th class="name" scope="row">{rung["threshold"]:g}</th>{said}</tr>')
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll"><table class="audit"><thead><tr><th class="name" scope="col">'
        f"{escape(words.MEASURES[told['embedding']['measure']])} at least</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{BELOW}"
    )


def _figures(search: Search) -> str:
    """Sizes of clusters, and how near the nearest samples are."""
    measure = words.MEASURES[search.told["embedding"]["measure"]]
    near = figure(
        lambda width: nearest_figure(search, width), "nearest", "How near the nearest training sample is",
        f"Each sample's nearest training sample by {measure}. Dashed: the threshold.",
    )  # fmt: skip
    sizes = figure(
        lambda width: sizes_figure(search, width), "sizes", "Sizes of the clusters",
        "Clusters of two or more training samples by their size.",
    )  # fmt: skip
    return near + sizes


def _sheet(width: float):
    """A figure with one axes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(settings()):
        sheet = Figure(figsize=(width, 2.6), layout="constrained")
        return sheet, sheet.add_subplot()


def nearest_figure(search: Search, width: float = WIDE):
    """A histogram of the cosine of each training sample with the nearest other one."""
    sheet, axes = _sheet(width)
    values = search.nearest["train"]
    threshold, measure = search.told["config"]["threshold"], words.MEASURES[search.told["embedding"]["measure"]]
    low = min(values.min(initial=1.0), threshold, 0.99)
    axes.hist(np.clip(values, low, 1.0), bins=np.linspace(low, 1.0, 61), color=colour("retrain"), log=True)
    if threshold > 0:
        axes.axvline(threshold, color=colour("ink"), linestyle="--", linewidth=1)
    axes.set_xlabel(f"{measure} with the nearest training sample")
    axes.set_ylabel(f"training {search.told['nouns']}")
    return sheet


def sizes_figure(search: Search, width: float = WIDE):
    """Bars of how many clusters have each size; many sizes are drawn in bins that double."""
    sheet, axes = _sheet(width)
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
    return sheet


def _blocks(search: Search, kind: str, caption: str) -> str:
    """The samples of one kind, a row for each block."""
    held = search.gallery
    mine = held["kind"] == kind
    blocks = []
    for block in np.unique(held["block"][mine]):
        rows = np.flatnonzero(mine & (held["block"] == block))
        size = int(held["size"][rows[0]])
        lead = f"target {held['id'][rows[0]]}, " if kind == "target" else ""
        lead = f"test {held['id'][rows[0]]}, nearest " if kind == "test" else lead
        inside = "in a cluster" if kind in ("target", "test") else "cluster"
        said = f"{lead}{inside} of {size:,}" if size > 1 else f"{lead}in no cluster"
        more = f", {len(rows)} shown" if kind in ("largest", "mixed") and size > len(rows) else ""
        items = "".join(_item(held, row, place) for place, row in enumerate(rows.tolist()))
        blocks.append(f'<div class="cluster"><p class="caption">{said}{more}</p><div class="near">{items}</div></div>')
    return f'<p class="caption">{escape(caption)}</p><div class="rows">{"".join(blocks)}</div>' if blocks else ""


def _item(held: dict, row: int, place: int) -> str:
    """One sample: its picture or words, its label, how alike it is to the first, its id."""
    label = str(held["class_names"][int(held["label"][row])])
    alike = "" if place == 0 else f"{float(held['similarity'][row]):.3f}"
    told = ", ".join(part for part in (f"{held['split'][row]} {held['id'][row]}", label, alike) if part)
    kind = " own" if place == 0 else ""
    if "images" in held:
        shown = "<br>".join(escape(part) for part in (label, alike or str(held["split"][row])))
        picture = f'<img src="{png_uri(held["images"][row])}" alt="{escape(told)}" title="{escape(told)}">'
        return f'<div class="item{kind}">{picture}<span>{shown}</span></div>'
    return f'<div class="item text{kind}">{escape(readable(held["texts"][row]))} <span>({escape(told)})</span></div>'


def _reproduction(told: dict) -> str:
    """Command, device, versions and seconds, as far as they are recorded."""
    total, searching = told.get("seconds_total"), told.get("seconds_searching")
    timed = f"{total:.1f} in all, {searching:.1f} to embed and find neighbours"
    pairs = [
        ("Finished", inline(told.get("finished"))),
        ("Seconds", timed if isinstance(total, int | float) else ""),
        ("Device", inline(told.get("device"))),
        ("Commit", inline(told.get("git_commit"))),
        ("Configuration", inline({k: v for k, v in told["config"].items() if v not in ("", 0, None, [], False)})),
        ("Versions", inline(told.get("versions"))),
    ]
    command = told.get("command")
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'
