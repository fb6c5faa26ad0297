"""The figures of an attribution study; each returns a matplotlib `Figure`, or None where there is nothing to draw."""

from __future__ import annotations

import numpy as np

from unlearn_jax.reports.influence_load import NAMES, TRACKS, Attribution
from unlearn_jax.reports.panels import beside, dot, sheet, spare, styled, tiles
from unlearn_jax.reports.style import WIDE, colour

TONES = {"influence": "original", "newton": "oracle", "ekfac": "retrain", "trak": "placebo", "datamodel": "dedup"}
LINE = {"linewidth": 1, "zorder": 1}


@styled
def removal_figure(run: Attribution, width: float = WIDE):
    """Predicted against actual fall of each target's margin: a panel for each track and kind of removal."""
    shown = lambda track, kind: [
        (name, rows_of)
        for name in ("influence", "newton", "ekfac")
        if (rows_of := run.rows("removals", track=track, removed=kind, estimator=name, own=True))
    ]
    panels = [(t, kind) for t in run.tracks for kind in ("target", "cluster") if shown(t, kind)]
    if not panels:
        return None
    rows, columns = tiles(len(panels), width)
    figure, axes = sheet(width, (2.9 if width > 6 else 2.3) * rows, rows, columns)
    for at, (track, kind) in zip(axes.ravel(), panels):
        every = []
        for name, rows_of in shown(track, kind):
            x, y, error = rows_of["actual"], rows_of["predicted"], rows_of["error"]
            every += [x, y]
            tone = colour(TONES[name])
            if name == "influence" and (error > 0).any():
                at.hlines(y, x - 1.96 * error, x + 1.96 * error, color=colour("band"), linewidth=0.8, zorder=1.5)
            at.plot(x, y, "o", color=tone, markersize=4, alpha=0.85, linestyle="none", label=NAMES[name])
        whole = np.concatenate(every)
        ends = [min(0.0, float(whole.min())), 1.05 * float(whole.max())]
        at.plot(ends, ends, color=colour("muted"), linestyle=(0, (4, 3)), **LINE)
        at.set_title(f"{TRACKS[track]}\n{kind} removed")
        at.set_xlabel("actual fall (nats)")
    for row in axes:
        row[0].set_ylabel("predicted fall (nats)")
    spare(axes, len(panels))
    return _legend(figure, axes)


@styled
def score_figure(run: Attribution, width: float = WIDE):
    """Linear datamodelling score of each estimator, by track."""
    tracks = [t for t in run.tracks if any(np.isfinite(run.find(t, "half", e, "lds").value) for e in run.estimators)]
    if not tracks:
        return None
    shape = beside(len(tracks), width)
    figure, axes = sheet(width, (0.32 * len(run.estimators) + 0.9) * shape[0], *shape)
    for at, track in zip(axes.ravel(), tracks):
        names = [e for e in run.estimators if np.isfinite(run.find(track, "half", e, "lds").value)]
        names.sort(key=lambda e: run.find(track, "half", e, "lds").value)
        for place, name in enumerate(names):
            tone, everywhere = colour(TONES.get(name, "method")), (-np.inf, np.inf)
            dot(at, run.find(track, "half", name, "lds"), place, everywhere, tone, "o")
        at.set_yticks(range(len(names)), [NAMES[n] for n in names])
        at.set_xlim(min(0.0, *at.get_xlim()), 1)
        at.axvline(0, color=colour("grid"), **LINE)
        at.set_title(TRACKS[track])
        at.set_xlabel("LDS")
    return figure


@styled
def law_figure(run: Attribution, width: float = WIDE):
    """What deleting one of m + 1 exact copies does, against m, for ridge and softmax regression."""
    law = run.tables.get("law", {})
    if not law:
        return None
    figure, axes = sheet(width, 2.9, 1, 2 if width > 6 else 1)
    for at, model in zip(axes.ravel(), ("ridge", "softmax") if width > 6 else ("ridge",)):
        mine = {k: v[law["model"] == model] for k, v in law.items()}
        for number, cluster in enumerate(np.unique(mine["cluster"])):
            one = {k: v[mine["cluster"] == cluster] for k, v in mine.items()}
            x = one["copies"] + 1
            tone = colour(("original", "retrain", "oracle")[number % 3])
            if model == "ridge":
                at.plot(x, np.abs(one["law"]), color=tone, linewidth=1.2, label="closed form" if number == 0 else None)
            at.plot(x, np.abs(one["effect"]), "o", color=tone, markersize=4.5, label="refits" if number == 0 else None)
        size = np.abs(mine["effect"])
        top = 1.5 * float(np.nanmax(size[mine["copies"] == 4], initial=np.nanmin(size)))
        guide = np.asarray([4.0, mine["copies"].max() + 1.0])
        at.plot(guide, top * (guide / guide[0]) ** -2.0, color=colour("muted"), linestyle=(0, (4, 3)), **LINE)
        at.set_xscale("log")
        at.set_yscale("log")
        at.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        at.minorticks_off()
        at.set_title("ridge regression, own prediction" if model == "ridge" else "softmax regression, own loss (nats)")
        at.set_xlabel("exact copies before one is deleted")
        at.set_ylabel("size of the deletion's effect")
    return _legend(figure, axes)


@styled
def memory_figure(run: Attribution, width: float = WIDE):
    """Self-influence against memorization, an example a dot."""
    tracks = [t for t in run.tracks if run.rows("memorization", track=t, estimator="ekfac")]
    if not tracks:
        return None
    shape = beside(len(tracks), width)
    figure, axes = sheet(width, 2.9 * shape[0], *shape)
    for at, track in zip(axes.ravel(), tracks):
        least = 1e-5 * max(float(run.rows("memorization", track=track, estimator="ekfac")["score"].max()), 1e-30)
        for kind, tone in (("rest", "band"), ("copy", "placebo"), ("target", "original")):
            points = run.rows("memorization", track=track, estimator="ekfac", kind=kind)
            if points:
                jitter = 0.012 * np.sin(np.arange(len(points["score"])) * 12.9898)  # memorization comes in steps
                word = {"rest": "other examples", "copy": "similar samples", "target": "targets"}[kind]
                size = 2.2 if kind == "rest" else 3.4
                x, style = np.maximum(points["score"], least), {"color": colour(tone), "markersize": size, "alpha": 0.7}
                at.plot(x, points["memorization"] + jitter, "o", linestyle="none", label=word, **style)
        at.set_xscale("log")
        at.set_title(TRACKS[track])
        at.set_xlabel("self-influence (n x nats)")
        at.set_ylabel("memorization")
    return _legend(figure, axes)


def _legend(figure, axes):
    """One legend below all panels."""
    handles = {}
    for at in axes.ravel():
        for handle, label in zip(*at.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)), frameon=False
        )
    return figure
