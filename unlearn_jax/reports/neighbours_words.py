"""The sentences of a search for similar samples, for the page and for the terminal."""

from __future__ import annotations

from typing import Any

MAX_NAMED = 20  # targets without a neighbour that are named
MEASURES = {"cosine": "cosine", "jaccard": "Jaccard index"}


def findings(told: dict[str, Any]) -> list[str]:
    """What was found, a sentence each."""
    nouns, threshold = told["nouns"], told["config"]["threshold"]
    measure = MEASURES[told["embedding"]["measure"]]
    how = "among each other's nearest" if told["config"]["mutual"] else "linked"
    lines = [
        f"{told['linked']:,} of {told['samples']:,} training {nouns} are in {plural(told['clusters'], 'cluster')} of "
        f"two or more, {how} at a {measure} of {threshold:g} or more; the largest has {told['largest']:,}.",
        f"{percent(told['pairs_same_label'])} of the {plural(told['pairs'], 'linked pair')} are of one label, and so "
        f"are {percent(told['clusters_of_one_label'])} of the clusters.",
    ]
    if told["test"]:
        test = told["test"]
        same = f" ({percent(test['same_label'])} of its label)" if test["near"] else ""
        has, which = "has" if test["near"] == 1 else "have", "is" if test["clusters"] == 1 else "are"
        lines.append(
            f"{test['near']:,} of {test['samples']:,} test {nouns} {has} a training neighbour{same}; "
            f"{plural(test['clusters'], 'cluster')} of training {nouns} {which} nearest to some."
        )
    return lines + targets_said(told)


def targets_said(told: dict[str, Any]) -> list[str]:
    """Which of the targets asked about have neighbours and which have none."""
    targets = told["targets"]
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
