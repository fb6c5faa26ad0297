"""The page of an attribution study: its frame and its sections in order; every text is escaped."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from unlearn_jax.reports import influence_figures as figures
from unlearn_jax.reports import influence_words as words
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.influence_load import Attribution, Told
from unlearn_jax.reports.influence_words import NAMES, TRACKS
from unlearn_jax.reports.provenance import BELOW
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import readable, section
from unlearn_jax.reports.style import png_uri
from unlearn_jax.reports.words import minus

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


def render_attribution(run: Attribution) -> str:
    """The whole page as one HTML document."""
    title = f"Influence predicted and measured: {_dataset(run)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(words.headline(run))}</p>',
        facts_strip(_facts(run)),
        _drawn(run, figures.removal_figure, "removal", "Removal: predicted against actual",
               "Each dot: a target's own margin when it, or its whole cluster, is removed. Dashed: right. Grey bars: "
               "95% intervals of the truth, where it is a mean over retrained networks."),
        section("estimators", "Estimators", _tables(run)),
        _drawn(run, figures.score_figure, "lds", "Linear datamodelling score",
               "Bars: 95% intervals over models and queries."),
        section("carriers", "Who carries a target?", _gallery(run)),
        _drawn(run, figures.memory_figure, "memorization", "Self-influence against memorization",
               "Each dot: a training example; heights are moved apart a little, for memorization comes in steps."),
        _drawn(run, figures.law_figure, "law", "Deleting one of many copies",
               "Three targets. Dashed: slope -2. The more copies stay, the less deleting one of them does."),
        section("words", "How to read this", definitions(words.WORDS)),
        section("reproduce", "To reproduce", _reproduction(run)),
    ]  # fmt: skip
    return document(title, parts)


def _drawn(run: Attribution, draw, name: str, heading: str, caption: str) -> str:
    """A section with one figure; '' where there is nothing to draw."""
    if draw(run) is None:
        return ""
    return section(name, heading, figure(lambda width: draw(run, width), name, heading, caption))


def _dataset(run: Attribution) -> str:
    """The data set, of a file the name alone."""
    return Path(str(run.manifest["config"]["dataset"])).name


def _facts(run: Attribution) -> dict[str, str]:
    """The setting of the run."""
    config, examples = run.manifest["config"], run.manifest["examples"]
    accuracy = ", ".join(f"{TRACKS[t]} {100 * a:.1f}%" for t, a in run.manifest["accuracy"].items())
    return {
        "Data": _dataset(run),
        "Training examples": str(examples["train"]),
        "Clusters": f"{examples['clusters']} targets with {config['copies']} {config['similarity']} copies each",
        "Queries": str(examples["queries"]),
        "Subsets": str(config["subsets"]),
        "Networks without each": str(config["repeats"]) if "network" in run.tracks else None,
        "Accuracy": accuracy,
    }


def _tables(run: Attribution) -> str:
    """A table for each track."""
    return "".join(f"<h3>{escape(TRACKS[track].capitalize())}</h3>{_table(run, track)}" for track in run.tracks)


def _table(run: Attribution, track: str) -> str:
    """Estimators of one track by what they were asked."""
    names = [*run.estimators, "gradient", "removal"]
    columns = [c for c in COLUMNS if any(math.isfinite(run.find(track, c[0], n, c[1]).value) for n in names)]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for *_, heading, _ in columns)
    rows = []
    for name in names:
        cells = [run.find(track, removed, name, metric) for removed, metric, *_ in columns]
        if any(math.isfinite(cell.value) for cell in cells):
            said = "".join(_cell(cell, digits) for cell, (*_, digits) in zip(cells, columns))
            rows.append(f'<tr><th class="name" scope="row">{escape(NAMES[name])}</th>{said}</tr>')
    return (
        f'<div class="scroll"><table class="audit"><thead><tr><th class="name" scope="col">Estimator</th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>{BELOW}"
    )


def _cell(told: Told, digits: int) -> str:
    """A figure with its interval below."""
    if not math.isfinite(told.value):
        return "<td></td>"
    interval = f"[{told.low:.{digits}f}, {told.high:.{digits}f}]".replace("-", "−") if math.isfinite(told.low) else ""
    return f'<td>{minus(f"{told.value:.{digits}f}")}<span class="ci">{interval}</span></td>'


def _gallery(run: Attribution) -> str:
    """Some targets with the examples that help them most."""
    held = run.gallery
    if not held:
        return ""
    name, track = NAMES[str(held["estimator"])], TRACKS[str(held["track"])]
    about = (
        f"First: the target. After it: the training examples that help it most, by {name} on {track}, the target "
        f"itself among them; below each the predicted fall of the target's margin without it, in nats. Framed: of its "
        f"own cluster."
    )
    blocks = []
    for k in range(len(held["target"])):
        items = "".join(_item(held, k, i) for i in range(held["rows"].shape[1]))
        blocks.append(f'<div class="cluster"><div class="near">{_picture(held, k)}{items}</div></div>')
    told = words.carried(run)
    lead = f"<p>{escape(told)}</p>" if told else ""
    return f'{lead}<p class="caption">{escape(about)}</p><div class="rows">{"".join(blocks)}</div>'


def _picture(held, k: int) -> str:
    """The target."""
    if "images_target" in held:
        return (
            f'<div class="item"><img src="{png_uri(held["images_target"][k])}" alt="target"><span>target</span></div>'
        )
    return f'<div class="item text"><strong>{escape(readable(held["texts_target"][k]))}</strong></div>'


def _item(held, k: int, i: int) -> str:
    """One helpful example with its score."""
    label = str(held["class_names"][int(held["labels"][k, i])])
    score, kind = minus(f"{held['scores'][k, i]:.2f}"), " own" if held["own"][k, i] else ""
    if "images" in held:
        picture = f'<img src="{png_uri(held["images"][k, i])}" alt="{escape(label)}">'
        return f'<div class="item{kind}">{picture}<span>{escape(label)}<br>{score}</span></div>'
    words = f"{escape(readable(held['texts'][k, i]))} <span>({escape(label)}, {score})</span>"
    return f'<div class="item text{kind}">{words}</div>'


def _reproduction(run: Attribution) -> str:
    """Command, device, versions and seconds, as far as they are recorded."""
    manifest = run.manifest
    total = manifest.get("seconds_total")
    pairs = [
        ("Finished", inline(manifest.get("finished"))),
        ("Seconds", f"{total:.1f} in all" if isinstance(total, int | float) else ""),
        ("Training", _seconds(manifest["training_seconds"])),
        ("Estimators", _seconds(manifest["seconds"])),
        ("Curvature", inline(manifest.get("solving"))),
        ("Device", inline(manifest.get("device"))),
        ("Commit", inline(manifest.get("git_commit"))),
        ("Versions", inline(manifest.get("versions"))),
    ]
    command = manifest.get("command")
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'


def _seconds(known: dict) -> str:
    """Seconds by track and name in one line."""
    return inline({track: {name: f"{s:.1f} s" for name, s in times.items()} for track, times in known.items() if times})
