"""Targets with their copies, in pictures or words, as a page of a study shows them."""

from __future__ import annotations

from typing import Any

from unlearn_jax.reports.load import Run
from unlearn_jax.reports.render import Table, Td, Tr, readable, row
from unlearn_jax.reports.style import png_uri

MAX_CLUSTERS, MAX_PICTURES = 12, 9
MAX_ANSWERS = 4  # of a population on one target


def gallery_of(run: Run) -> dict[str, Any] | None:
    """Some targets with their copies, and which of these stay; None where the run stored none."""
    if run.gallery is None:
        return None
    natural = run.summary.facts["similarity"].startswith("natural")
    shown = {"copies": "nearest neighbours" if natural else "copies", "stay": which_stay(run)}
    if "texts" in run.gallery:
        return shown | {"facts": bool(run.answers), "texts": _texts(run.gallery, run.answers)}
    images = run.gallery["images"]
    return shown | {"texts": [], "pictures": _pictures(run.gallery), "shown": min(images.shape[1], MAX_PICTURES)}


def which_stay(run: Run) -> str:
    """Which stay, or of which so many stay where the request names some."""
    level = run.summary.levels[-1]
    named = run.summary.requested(level) - 1
    return f"of which {level - named or 'none'} stay{'s' * (level - named < 2)}" if named else "which stay"


def _pictures(gallery: dict[str, Any]) -> list[dict[str, Any]]:
    """Pictures by cluster, the target first, with its label."""
    images, labels, each = gallery["images"], gallery.get("labels"), gallery.get("each_label")
    names, clusters = gallery.get("class_names"), []
    for k, cluster in enumerate(images[:MAX_CLUSTERS]):
        label = "" if labels is None else _named(int(labels[k]), names)
        others = [] if each is None else [_named(int(each_of), names) for each_of in each[k][1:MAX_PICTURES]]
        if any(other != label for other in others):
            label += f"; of the others {', '.join(others)}"
        clusters.append({"label": label, "uris": [png_uri(image) for image in cluster[:MAX_PICTURES]]})
    return clusters


def _named(label: int, names) -> str:
    """A label with its class's name, where that says more than the number."""
    if names is None or label >= len(names) or str(names[label]) == str(label):
        return str(label)
    return f"{names[label]} ({label})"


def _texts(gallery: dict[str, Any], answers: dict[str, list[dict[str, int]]]) -> list[dict[str, Any]]:
    """Documents by cluster, the target first, and what each population answers on the target."""
    heads, clusters = [[Td("population", kind="name"), Td("answers", kind="said")]], []
    for k, cluster in enumerate(gallery["texts"][:MAX_CLUSTERS]):
        lines = [_answers(name, by_target[k]) for name, by_target in answers.items() if k < len(by_target)]
        clusters.append({
            "label": str(gallery["class_names"][int(gallery["labels"][k])]),
            "target": readable(cluster[0]),
            "copies": [readable(text) for text in cluster[1:MAX_PICTURES]],
            "answers": Table(heads, lines),
        })  # fmt: skip
    return clusters


def _answers(name: str, counts: dict[str, int]) -> Tr:
    """What the members of a population answer, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{word} {count}" for word, count in ordered[:MAX_ANSWERS])
    left = len(ordered) - MAX_ANSWERS
    return row(name, [shown + (f" and {left} other{'s' * (left > 1)}" if left > 0 else "")], said=[0])
