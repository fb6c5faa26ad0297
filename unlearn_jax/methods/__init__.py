"""The registry of unlearning methods: name -> `Entry`; one algorithm per file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from unlearn_jax.data.augment import augmentation
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import (
    do_nothing,
    finetune,
    gradient_ascent,
    neggrad_plus,
    random_label,
    retrain,
    scrub,
)
from unlearn_jax.methods.common import Entry, Problem
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.population.run import Fold

NO_SIZES = Sizes(0, 0)
CORE = ("do_nothing", "retrain", "finetune", "gradient_ascent", "neggrad_plus", "random_label", "scrub")
METHODS: dict[str, Entry] = {
    module.ENTRY.name: module.ENTRY
    for module in (do_nothing, retrain, finetune, gradient_ascent, neggrad_plus, random_label, scrub)
}


def select(names: str) -> list[str]:
    """Registry names from a comma-separated list of names and of the groups ``core``, ``all`` and ``none``.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    groups = {"core": list(CORE), "all": list(METHODS), "none": []}
    listed = [name.strip() for name in names.split(",") if name.strip()]
    chosen = [groups[n] if n in groups else [choose("method", n, [*METHODS, *groups])] for n in listed]
    return list(dict.fromkeys(sum(chosen, [])))


def prepare(
    name: str, problem: Problem, settings: dict[str, Any] | None = None, sizes: Sizes = NO_SIZES
) -> tuple[Fold, Plan, dict[str, float]]:
    """A method made ready to run on a population.

    Args:
        name: registry name.
        problem: model, task and recipe.
        settings: overrides of the entry's hyperparameters, static or numeric.
        sizes: the largest request and retained set of any member, from which plans count their passes.

    Returns:
        The fold (the same object for the same problem and static settings, so that its program is reused), its plan,
        and the value of every numeric hyperparameter.

    Raises:
        InputError: unknown method, or a hyperparameter that it does not have.
    """
    entry = METHODS[choose("method", name, METHODS)]
    static, numeric = dict(entry.static), dict(entry.numeric)
    if name == "retrain":
        numeric.update(lr=problem.recipe.lr, weight_decay=problem.recipe.weight_decay)
    for key, value in (settings or {}).items():
        check_setting(name, key)
        if key in numeric:
            numeric[key] = float(value)
        else:
            static[key] = type(entry.static[key])(value)

    drawn = problem.recipe._replace(lr=0.0, weight_decay=0.0, steps=0)  # numeric or the plan's: not part of the program
    fold = _fold(entry.build, problem._replace(recipe=drawn), tuple(sorted(static.items())))
    return fold, entry.plan(sizes, static, problem.recipe), numeric


@functools.lru_cache(maxsize=128)
def _fold(entry_build: Callable, problem: Problem, static: tuple) -> Fold:
    """The fold of a method with its static settings."""

    def build(hp, shared):
        return entry_build(bind_shared(problem, shared), dict(static), hp)

    return Fold(build, augmentation(problem.recipe.augment))


def check_setting(name: str, key: str) -> None:
    """Raise `InputError` unless method ``name`` has the hyperparameter ``key``."""
    entry = METHODS[choose("method", name, METHODS)]
    valid = [*entry.numeric, *entry.static]
    if key not in valid:
        offer = f"it has {', '.join(valid)}" if valid else "it has none"
        raise InputError(f"method '{name}' has no hyperparameter '{key}': {offer}.")


def bind_shared(problem: Problem, shared) -> Problem:
    """The problem with weights common to all members put back into every call of its model."""
    if not shared:
        return problem
    apply = problem.model.apply
    bound = lambda variables, *args, **kw: apply({**variables, "shared": shared}, *args, **kw)
    return problem._replace(model=problem.model._replace(apply=bound))
