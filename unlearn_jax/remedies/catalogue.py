"""The table of remedies in docs/remedies.md, from the registry alone: `python -m unlearn_jax.remedies.catalogue`."""

from __future__ import annotations

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.catalogue import settings
from unlearn_jax.remedies import REMEDIES
from unlearn_jax.remedies.common import Remedy
from unlearn_jax.remedies.search import SEARCH

FEW = 3  # methods that are named rather than counted


def methods_of(remedy: Remedy) -> str:
    """Which methods it wraps, with why not the others."""
    refusals = {name: remedy.methods(entry) for name, entry in METHODS.items()}
    wrapped = [f"`{name}`" for name, why in refusals.items() if not why]
    if len(wrapped) <= FEW:
        return ", ".join(wrapped)
    reasons = dict.fromkeys(why.removeprefix("it ") for why in refusals.values() if why)
    text = "all" if len(wrapped) == len(METHODS) else f"{len(wrapped)} of {len(METHODS)}; not where it "
    return text + "; ".join(reasons)


def data_of(remedy: Remedy) -> str:
    """Kinds of data, and what models must be given."""
    text = ", ".join(kind for kind in ("image", "text", "facts") if kind in remedy.kinds)
    if "vectors" not in remedy.inputs:
        return text + " (no vectors)"
    return text + (" (no tokens)" if "tokens" not in remedy.inputs else "")


def settings_of(remedy: Remedy) -> str:
    """The defaults; those of a search in one word where they are the usual ones."""
    usual = all(remedy.static.get(name) == value for name, value in SEARCH.items())
    others = {k: v for k, v in remedy.static.items() if not (usual and k in SEARCH)}
    text = settings(remedy._replace(static=others))
    return ", ".join(part for part in ("the search's" if usual else "", text) if part) or "none"


def remedies_table() -> str:
    """A row for each remedy: name, source, rule, methods, data, settings, and last the defaults of the search."""
    lines = ["| remedy | after | rule | methods | data | settings |", "|" + " --- |" * 6]
    for name, remedy in REMEDIES.items():
        cells = (f"`{name}`", remedy.paper, remedy.rule, methods_of(remedy), data_of(remedy), settings_of(remedy))
        lines.append("| " + " | ".join(cells) + " |")
    usual = settings(next(iter(REMEDIES.values()))._replace(numeric={}, static=SEARCH))
    return "\n".join(lines) + f"\n\nThe search's settings: {usual}."


if __name__ == "__main__":
    print(remedies_table())
