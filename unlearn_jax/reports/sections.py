"""The sections of the page that hold figures and pictures."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from unlearn_jax.reports import figures
from unlearn_jax.reports.load import Run
from unlearn_jax.reports.provenance import link
from unlearn_jax.reports.style import NARROW, WIDE, inline_svg, png_uri
from unlearn_jax.runtime import signals

MAX_CLUSTERS, MAX_PICTURES, MAX_PANELS = 12, 9, 12
MAX_LETTERS = 300  # of a document in the gallery


def at(level: int) -> str:
    """A heading's copies level."""
    return f" at {level} {'copy' if level == 1 else 'copies'}"


def section(name: str, heading: str, body: str) -> str:
    """One section; nothing where there is nothing to show."""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>\n{body}\n</section>' if body else ""


def _figure(draw, prefix: str, label: str, caption: str, made: str = "") -> str:
    """A figure in a wide and a narrow drawing, of which the page shows one; ``made`` links to how it was made."""
    signals.look()
    wide = inline_svg(draw(WIDE), f"{prefix}-w", label)
    narrow = inline_svg(draw(NARROW), f"{prefix}-n", label)
    return (
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{escape(caption)} {made or link()}</figcaption></figure>"
    )


ABOUT = "Bars: 95% intervals. Shaded: the null band. Open markers: not identifiable. "


def curve_section(run: Run) -> str:
    """Residual of the references against copies, and against the identified fraction where there are several."""
    summary, level = run.summary, run.summary.levels[-1]
    ridge = (
        "Dotted: the share m/(m+1) that ridge regression keeps for m exact copies at small leverage, as a "
        "yardstick, not a fit."
    )
    heading = "Residual influence against copies" if len(summary.levels) > 1 else f"Residual influence{at(level)}"
    label = "Residual influence of the reference populations by number of copies"
    body = _figure(lambda w: figures.main_figure(summary, w), "curve", label, ABOUT + ridge)
    for copies, shares in summary.shares.items():
        caption = f"By the share of each cluster that the request names{at(copies)}. " + ABOUT
        draw = lambda w, m=copies, s=shares: figures.gamma_figure(summary, m, s, w)
        body += _figure(draw, f"gamma{copies}", "Residual influence by identified fraction", caption, link(copies))
    return section("curve", heading, body)


def panels_section(run: Run) -> str:
    """Every method's residual against copies, in small panels."""
    summary, level = run.summary, run.summary.levels[-1]
    methods = [e for e in summary.entries(level) if not e.is_reference]
    methods = [e for e in methods if math.isfinite(summary.residual(level, e).mean)]
    if len(summary.levels) == 1 or not methods:
        return ""
    shown = methods[:MAX_PANELS]
    which = "Each method" if len(shown) == len(methods) else f"The {len(shown)} nearest to the oracle of {len(methods)}"
    caption = f"{which}, in the order of the table; dashed blue: retrain. Triangles: beyond the axis. {ABOUT}"
    draw = lambda w: figures.methods_figure(summary, shown, w)
    body = _figure(draw, "panels", "Residual influence by method", caption)
    return section("panels", "Methods against copies", body)


def forest_section(run: Run) -> str:
    """The forest plot."""
    summary, level = run.summary, run.summary.levels[-1]
    if all(e.is_reference for e in summary.entries(level)):
        return ""  # the first figure shows them
    caption = (
        "With 95% intervals, ordered by residual distance. Lines: 0 = oracle, 1 = original. Shaded: the null band. "
        "Open markers: members diverged, or not identifiable. Arrows: beyond the axis."
    )
    draw = lambda width: figures.forest_figure(summary, level, width)
    heading = f"Residual distance and influence of every population{at(level)}"
    return section(
        "forest",
        heading,
        _figure(draw, "forest", "Residual distance and signed residual influence with intervals", caption, link(level)),
    )


def margin_section(run: Run) -> str:
    """Histograms of the references' margins."""
    if not any(np.isfinite(values).any() for values in run.margins.values()):
        return ""
    level = run.summary.levels[-1]
    count = max(values.size for values in run.margins.values())
    lost = sum(int((~np.isfinite(values)).sum()) for values in run.margins.values())
    caption = (
        f"Per-member margins: each count is one target under one member ({count} values a population). Black "
        "or white line: mean. Green outline: the oracle. Values beyond the axis are counted in the outermost "
        "bins." + (f" {lost} values that are not finite are left out." if lost else "")
    )
    draw = lambda width: figures.margins_figure(run.margins, width)
    heading = f"Margins of the targets under the references{at(level)}"
    return section("margins", heading, _figure(draw, "margins", "Histograms of margins", caption, link(level)))


def picture_section(run: Run) -> str:
    """Some targets with their copies."""
    if run.gallery is None:
        return section("pictures", "Targets and their copies", "<p>This run stored no pictures.</p>")
    if "texts" in run.gallery:
        return text_section(run)
    images, labels, each = (run.gallery.get(name) for name in ("images", "labels", "each_label"))
    names = run.gallery.get("class_names")
    blocks = []
    for k, cluster in enumerate(images[:MAX_CLUSTERS]):
        label = "" if labels is None else _named(int(labels[k]), names)
        others = [] if each is None else [_named(int(own), names) for own in each[k][1:MAX_PICTURES]]
        if any(other != label for other in others):
            label += f"; of the others {', '.join(others)}"
        strip = "".join(
            f'<img src="{png_uri(image)}" alt="{f"copy {i}" if i else f"target, label {escape(label)}"}">'
            for i, image in enumerate(cluster[:MAX_PICTURES])
        )
        blocks.append(
            f'<div class="cluster"><p class="caption">label {escape(label)}</p><div class="strip">{strip}</div></div>'
        )
    about = f"Outlined: the target. After it: its {_copies_word(run)}, {_which_stay(run)} when the target is deleted."
    body = f'<p class="caption">{about}</p><div class="clusters">{"".join(blocks)}</div>'
    return section("pictures", "Targets and their copies", body)


def _named(label: int, names) -> str:
    """A label with its class's name, where that says more than the number."""
    known = names is not None and label < len(names) and str(names[label]) != str(label)
    return f"{names[label]} ({label})" if known else str(label)


def _copies_word(run: Run) -> str:
    """What the similar samples are called."""
    return "nearest neighbours" if run.summary.facts["similarity"].startswith("natural") else "copies"


def _which_stay(run: Run) -> str:
    """Which stay, or of which so many stay where the request names some."""
    level = run.summary.levels[-1]
    named = run.summary.requested(level) - 1
    return f"of which {level - named or 'none'} stay{'s' * (level - named < 2)}" if named else "which stay"


def text_section(run: Run) -> str:
    """Some targets with their copies, in words, and what each population answers on the target."""
    blocks, facts = [], bool(run.answers)
    for k, cluster in enumerate(run.gallery["texts"][:MAX_CLUSTERS]):
        label = str(run.gallery["class_names"][int(run.gallery["labels"][k])])
        lines = "".join(f"<li>{escape(readable(text))}</li>" for text in cluster[1:MAX_PICTURES])
        told = f"<p><strong>{escape(readable(cluster[0]))}</strong></p>" + (f"<ul>{lines}</ul>" if lines else "")
        said = "".join(_answers_row(name, given[k]) for name, given in run.answers.items() if k < len(given))
        head = '<thead><tr><th class="name">population</th><th class="said">answers</th></tr></thead>'
        table = f"<table>{head}<tbody>{said}</tbody></table>"
        blocks.append(f'<div class="told"><p class="caption">{escape(label)}</p>{told}{table if said else ""}</div>')
    whose = ", whose last two words are the answer" if facts else ""
    about = f"In bold: the target{whose}. Below it: its {_copies_word(run)}, {_which_stay(run)} when it is deleted."
    return section("pictures", "Targets and their copies", f'<p class="caption">{about}</p>{"".join(blocks)}')


def readable(text) -> str:
    """The beginning of a document, up to a word's end."""
    text = " ".join(str(text).split())
    return text if len(text) <= MAX_LETTERS else text[:MAX_LETTERS].rsplit(" ", 1)[0] + " …"


def _answers_row(name: str, given: dict[str, int]) -> str:
    """What the members of a population answer, the most frequent first."""
    ordered = sorted(given.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{escape(word)} {count}" for word, count in ordered[:4])
    left = len(ordered) - 4
    more = f" and {left} other{'s' * (left > 1)}" if left > 0 else ""
    return f'<tr><th class="name" scope="row">{escape(name)}</th><td class="said">{shown}{more}</td></tr>'
