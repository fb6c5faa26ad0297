"""The registry of unlearning methods: name -> `MethodSpec`; one algorithm per file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from unlearn_jax.data.augment import augmentation
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods.support.common import (
    NEEDS,
    Context,
    MethodSpec,
    Span,
    TrainSpec,
    bind_shared,
    bounded_loss,
    descent,
    gradient_method,
    mean_loss,
    phased_method,
    retained_loss,
    sgd,
    unforgotten,
    weighted_mean,
)
from unlearn_jax.methods.support.lengths import LENGTHS, LONGEST, at_length, length_of, plan_of, within_budget
from unlearn_jax.population.plans import (
    Plan,
    Sizes,
    epochs_over_request,
    epochs_over_retained,
    phased_plan,
    uniform_plan,
)
from unlearn_jax.population.program import Fold
from unlearn_jax.registry import Registry, entries_in, named
from unlearn_jax.roles import INNER, REFERENCES
from unlearn_jax.types import Recipe

NO_SIZES = Sizes(0, 0)
CORE_LANGUAGE = (
    "do_nothing", "retrain", "finetune", "gradient_ascent", "grad_diff", "npo", "simnpo", "rmu", "undial", "scrub",
)  # fmt: skip
CORE = ("do_nothing", "retrain", "finetune", "gradient_ascent", "neggrad_plus", "random_label", "scrub")
SMALL = ("small", "small_conv", "small_text", "small_transformer")  # every method has defaults at these
SCALES = (*SMALL, "cifar", "language")
ORDER = (  # of tables; a method that is not named here follows, by name
    # controls, and the baselines that most papers compare with
    "do_nothing", "retrain", "finetune", "gradient_ascent", "neggrad_plus", "random_label", "scrub", "scrub_r",
    "salun", "bad_teacher",
    "l1_sparse", "eu_k", "cf_k", "boundary_shrink", "boundary_expand", "unsir", "delete", "jit_lipschitz", "l2ul",
    "mu_mis", "lotus", "uam",
    # one shot: statistics, then an act
    "ssd", "lfssd", "fisher", "influence", "woodfisher", "warnecke_first", "warnecke_second", "certified_removal",
    "gauss_newton",
    # the NeurIPS 2023 challenge
    "fcs", "msg", "cfw", "prmq", "ct", "kde", "rni",
    # training anew
    "brief_retrain", "certified_finetune",
    # protocols
    "amnesiac", "sisa", "langevin",
    # similarity and geometry inside the method
    "duck", "sfron", "rurk", "rfe", "amun",
    # made for language models, on answers of any length
    "grad_diff", "kl_retain", "npo", "simnpo", "dpo_idk", "rmu", "undial", "wga", "satimp", "ceu", "task_vector",
    "pdu",
    "npo_sam", "gru", "negmerge",
    # given the outputs of other retrained models: the upper bound, and an imitation of retraining
    "oracle_matching", "datamodel_matching",
)  # fmt: skip
OTHERS = ("catalogue", "runner")  # files of this folder that are no methods
GROUPS = ("core", "all", "none")


def _undeclared(entry: MethodSpec) -> str:
    """What an entry of a package says wrongly of itself, '' for nothing."""
    if not entry.needs or not entry.needs <= set(NEEDS):
        return f"declares needs {sorted(entry.needs)}, which are to be some of {', '.join(NEEDS)}"
    return ""


BUILT_IN = entries_in(__name__, __path__, "ENTRY", ORDER, OTHERS)
RESERVED = (*GROUPS, *REFERENCES, *INNER)
METHODS: Registry = Registry(BUILT_IN, "method", "unlearn_jax.methods", named(MethodSpec, _undeclared), RESERVED)
"""Name -> `MethodSpec`; what you put in is run like what is built in."""


def select(names: str, answers: str = "classes") -> list[str]:
    """Registry names from a comma-separated list of names and of the groups ``core``, ``all`` and ``none``.

    ``answers`` is what the models answer with, see `MethodSpec.reads`; language has a core of its own.
    Raises `InputError` for an unknown name, listing the valid ones.

    Example:
        >>> select("scrub,none")
        ['scrub']
        >>> "npo" in select("core"), "npo" in select("core", "language")
        (False, True)
    """
    groups = {"core": list(CORE_LANGUAGE if answers == "language" else CORE), "all": list(METHODS), "none": []}
    return METHODS.pick_all(names, groups)


def prepare(
    name: str,
    problem: TrainSpec,
    settings: dict[str, Any] | None = None,
    sizes: Sizes = NO_SIZES,
    *,
    scale: str = "small",
    budget: float = 0.0,
) -> tuple[Fold, Plan, dict[str, float]]:
    """A method made ready to run on a population.

    Args:
        name: registry name.
        problem: model, task and recipe.
        settings: overrides of the entry's hyperparameters, static or numeric.
        sizes: the largest request and retained set of any member, from which plans count their passes.
        scale: whose defaults are meant: one of `SCALES`.
        budget: gradient evaluations a member, on request and retained data together, that an iterative method may
            use: its length is the longest that keeps within; 0 = the method's own length.

    Returns:
        The fold (the same object for the same problem and static settings, so that its program is reused), its plan,
        and the value of every numeric hyperparameter.

    Raises:
        InputError: unknown method, a hyperparameter or a scale that it does not have; a budget below its least.
    """
    return prepare_entry(METHODS[METHODS.pick(name)], problem, settings, sizes, scale=scale, budget=budget)


def prepare_entry(
    entry: MethodSpec,
    problem: TrainSpec,
    settings: dict[str, Any] | None = None,
    sizes: Sizes = NO_SIZES,
    *,
    scale: str = "small",
    budget: float = 0.0,
) -> tuple[Fold, Plan, dict[str, float]]:
    """`prepare` of an entry, whether or not it is in the registry."""
    static, numeric = settings_at(entry, scale)
    if entry.name == "retrain":
        numeric.update(lr=problem.recipe.lr, weight_decay=problem.recipe.weight_decay)
    for key, value in (settings or {}).items():
        _check_setting(entry, key)
        if key in numeric:
            numeric[key] = float(value)
        else:
            static[key] = type(entry.static[key])(value)
    if budget:
        static = within_budget(entry, static, sizes, problem, budget)
    if "slots" in static:  # room for what is kept of each requested example
        static["slots"] = max(sizes.forget, 1)
    drawn = problem.recipe._replace(lr=0.0, weight_decay=0.0, steps=0)  # numeric or the plan's: not part of the program
    fold = _fold(entry.build, problem._replace(recipe=drawn), tuple(sorted(static.items())))
    return fold, plan_of(entry, sizes, static, problem.recipe), numeric


def has_scale(entry: MethodSpec, scale: str) -> bool:
    """Whether an entry has defaults at a scale.

    Its own values are those of the scale small, and of the other small ones where those networks need no others.
    """
    return choose("scale", scale, SCALES) in SMALL or scale in entry.presets


def settings_at(entry: MethodSpec, scale: str) -> tuple[dict[str, Any], dict[str, float]]:
    """An entry's static and numeric defaults at a scale.

    Raises:
        InputError: unknown scale, or one at which the method has no defaults.

    Example:
        >>> static, numeric = settings_at(METHODS["finetune"], "small")
        >>> sorted(static), sorted(numeric)
        (['batch', 'epochs', 'momentum', 'optimizer'], ['lr', 'weight_decay'])
    """
    if not has_scale(entry, scale):
        scales = ", ".join(s for s in SCALES if has_scale(entry, s))
        raise InputError(
            f"method '{entry.name}' has no defaults at scale '{scale}', only at {scales}: "
            f"give --scale small or leave the method out."
        )
    preset = entry.presets.get(scale, ({}, ""))[0]
    return (
        {key: preset.get(key, value) for key, value in entry.static.items()},
        {key: float(preset.get(key, value)) for key, value in entry.numeric.items()},
    )


@functools.lru_cache(maxsize=128)
def _fold(entry_build: Callable, problem: TrainSpec, static: tuple) -> Fold:
    def build(hp, shared):
        return entry_build(bind_shared(problem, shared), dict(static), hp)

    return Fold(build, augmentation(problem.recipe.augment))


def check_setting(name: str, key: str) -> None:
    """Raise `InputError` unless method ``name`` has the hyperparameter ``key``."""
    _check_setting(METHODS[METHODS.pick(name)], key)


def _check_setting(entry: MethodSpec, key: str) -> None:
    valid = [*entry.numeric, *entry.static]
    if key not in valid:
        offer = f"it has {', '.join(valid)}" if valid else "it has none"
        raise InputError(f"method '{entry.name}' has no hyperparameter '{key}': {offer}.")


__all__ = [
    "CORE", "CORE_LANGUAGE", "LENGTHS", "LONGEST", "METHODS", "NO_SIZES", "SCALES", "SMALL", "at_length",
    "check_setting", "has_scale", "length_of", "plan_of", "prepare", "prepare_entry", "select", "settings_at",
    "within_budget",
    # what the author of a method needs
    "Context", "MethodSpec", "Plan", "Recipe", "Sizes", "Span", "TrainSpec", "bounded_loss", "descent",
    "epochs_over_request", "epochs_over_retained", "gradient_method", "mean_loss", "phased_method", "phased_plan",
    "retained_loss", "sgd", "unforgotten", "uniform_plan", "weighted_mean",
]  # fmt: skip
