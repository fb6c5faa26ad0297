"""The registry of remedies: name -> `Remedy`; wrappers around any method, one per file.

Remedies stand beside methods: they use methods and influence, which know nothing of them.
"""

from __future__ import annotations

from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.registry import Registry, entries_in, named
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext

OTHERS = ("catalogue", "common", "distil", "likeness", "search")  # files of this folder that are no remedies
ORDER = (  # of tables; a remedy that is not named here follows, by name
    # what is requested
    "expand", "weight", "dedup_first", "influence_closure", "likelihood_ratio",
    # what the method leaves is taught anew
    "local_teacher", "tilt", "stand_in",
    # how the method moves
    "project", "perturb", "paraphrase", "corrective", "partition",
    # how the data were split
    "cluster_sharding",
)  # fmt: skip


BUILT_IN = entries_in(__name__, __path__, "REMEDY", ORDER, OTHERS)
REMEDIES: Registry = Registry(BUILT_IN, "remedy", "unlearn_jax.remedies", named(Remedy), ("all", "none"))
"""Name -> `Remedy`; what you put in is run like what is built in."""
REMEDIES.reserve(METHODS.names)
METHODS.reserve(lambda: list(REMEDIES))


def select_remedies(names: str) -> list[str]:
    """Registry names from a comma-separated list of names and of the groups ``all`` and ``none``.

    Raises `InputError` for an unknown name, listing the valid ones.

    Example:
        >>> select_remedies("expand,tilt")
        ['expand', 'tilt']
    """
    groups = {"all": list(REMEDIES), "none": []}
    return REMEDIES.pick_all(names, groups)


def remedy_settings(name: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """A remedy's settings, with some of them given.

    Raises:
        InputError: unknown remedy or setting.

    Example:
        >>> remedy_settings("expand", {"k": 4})["k"]
        4
    """
    remedy = REMEDIES[REMEDIES.pick(name)]
    settings = remedy.numeric | remedy.static
    for key in given or {}:
        if key not in settings:
            offer = f"it has {', '.join(settings)}" if settings else "it has none"
            raise InputError(f"remedy '{name}' has no setting '{key}': {offer}.")
    return settings | (given or {})


__all__ = ["REMEDIES", "RemedyContext", "Remedied", "Remedy", "remedy_settings", "select_remedies"]
