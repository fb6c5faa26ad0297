"""What a remedy is given and gives back. A remedy wraps any method: it decides whom and how the method treats.

Nothing here tells a remedy who belongs to a cluster, how copies were made, or what an oracle says: it sees the stored
examples, who is kept and who is requested, validation examples that nobody was trained on, and the original models.
Two options were shaped on image copies all the same, and say so: the similarity ``aligned`` and
the remedy ``paraphrase``, whose poses are those by which near copies are made. No default takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.methods.runner import RunOverrides, Unlearned
from unlearn_jax.methods.support.common import Context, MethodSpec, TrainSpec
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.program import Fold, Stored
from unlearn_jax.types import Population, Variables


class RemedyContext(NamedTuple):
    """What a remedy may look at and do; lists are by member."""

    name: str  # METHOD+REMEDY, for roles
    entry: MethodSpec  # of the method
    problem: TrainSpec
    seed: int
    kind: str  # of the data, a key of `KINDS`
    stored: Stored
    labels: np.ndarray  # (n,) class of each stored example
    texts: np.ndarray | None  # (n,) where inputs are made of texts
    kept: list[np.ndarray]
    requested: list[np.ndarray]
    heldout: list[np.ndarray]  # rows never trained on, the validation split
    original: Variables  # of N members
    run: Callable[[RunOverrides], Unlearned]  # the method, once
    follow: Callable[[Fold, Plan, RunOverrides, dict[str, float]], Population]  # a fold of the remedy's own
    context: Callable[[RunOverrides], Context]  # to train, predict and score
    train_cost: float  # gradient evaluations of one training from scratch
    clock: list[float]  # seconds of what contexts have trained so far, over all members

    @property
    def plain(self) -> RunOverrides:
        """The method as it would run without a remedy."""
        return RunOverrides(self.kept, self.requested, role=self.name)


class Remedied(NamedTuple):
    """What a remedy returns."""

    unlearned: Unlearned
    found: list[np.ndarray] | None = None  # rows taken for similar samples, by member; none = no search


class Remedy(NamedTuple):
    """A registry entry: ``apply(evidence, settings) -> Remedied``."""

    name: str
    paper: str
    rule: str  # one line
    apply: Callable[[RemedyContext, dict[str, Any]], Remedied]
    numeric: dict[str, float]
    static: dict[str, Any]
    kinds: frozenset = frozenset({"image", "text", "facts"})  # of data
    inputs: frozenset = frozenset({"images", "vectors", "tokens", "wordpiece", "language"})  # of models
    # why it cannot wrap a method, without full stop; '' = it can
    methods: Callable[[MethodSpec], str] = lambda entry: ""
    fresh: bool = False  # the result does not start from the originals
    notes: str = ""
    choices: dict[str, tuple[str, ...]] = {}  # values of static settings, by name
    shares: tuple[str, ...] = ()  # settings that are at most 1
    within_request: str = ""  # a setting that may not exceed the size of a request


def by_request(evidence: RemedyContext, search: Callable[[int], Any]) -> list:
    """``search(member)`` for the first member of each distinct request; the result for every member."""
    by_rows: dict[Any, Any] = {}
    for member, rows in enumerate(evidence.requested):
        key = np.asarray(rows).tobytes() + np.asarray(evidence.kept[member]).tobytes()
        if key not in by_rows:
            by_rows[key] = search(member)
        by_rows["by", member] = by_rows[key]
    return [by_rows["by", member] for member in range(len(evidence.requested))]


def moved(evidence: RemedyContext, found: list[np.ndarray]) -> RunOverrides:
    """The method with what was found requested too, and no longer retained."""
    kept = [np.setdiff1d(k, f).astype(np.int32) for k, f in zip(evidence.kept, found)]
    requested = [np.concatenate([r, f]).astype(np.int32) for r, f in zip(evidence.requested, found)]
    return evidence.plain._replace(kept=kept, requested=requested)


REASONS = {
    "nothing": "it changes nothing",
    "fresh_init": "it does not start from the original's weights",
    "protocol": "it prescribes how the original was trained",
    "reference": "it is given the outputs of other models, which no remedy changes",
}


def without(*needs: str, forget: bool = False) -> Callable[[MethodSpec], str]:
    """For `Remedy.methods`: refuses methods with one of these needs, and with ``forget`` those that read no request."""

    def why(entry: MethodSpec) -> str:
        if found := next((need for need in needs if need in entry.needs), None):
            return REASONS[found]
        return "it reads no requested sample" if forget and "forget" not in entry.needs else ""

    return why


def mean_size(rows: list[np.ndarray]) -> float:
    """Mean number of rows of a member."""
    return float(np.mean([len(r) for r in rows]))


def following(before: Population, after: Population) -> Population:
    """What came after, with the seconds of both."""
    seconds = {name: getattr(before, name) + getattr(after, name) for name in ("seconds", "compile_seconds")}
    return after._replace(**seconds)


def costing(unlearned: Unlearned, forget: float = 0.0, retain: float = 0.0) -> Unlearned:
    """The same with further gradient evaluations a member."""
    f, r = unlearned.grad_evals
    return unlearned._replace(grad_evals=(f + forget, r + retain))
