"""Which methods can run on a model of the user's own, and what each of the others lacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, SCALES, has_scale
from unlearn_jax.methods.support.common import MethodSpec, Recipe
from unlearn_jax.own.examples import Request
from unlearn_jax.population.plans import Sizes

MANY = 1_000_000  # parameters from which a convolutional network takes the settings of CIFAR's residual networks
NEVER = {  # needs that no argument meets
    "protocol": "prescribes how the original is trained, so it cannot start from a model that exists",
    "reference": "is given the outputs of other retrained models, which only a study has",
}
SAY = "choose another method, or run a study"


class Given(NamedTuple):
    """What a call brings, for methods that ask for more than examples to forget."""

    request: Request
    retain: bool
    recipe: Recipe | None
    pixels: bool  # inputs can be moved a little


class _Unknown:
    """Stands in for a recipe that was not given, and notes whether it is read."""

    def __init__(self):
        object.__setattr__(self, "asked", False)

    def __getattr__(self, name: str) -> Any:
        object.__setattr__(self, "asked", True)
        return getattr(Recipe(), name)


def asks_for_recipe(entry: MethodSpec) -> bool:
    """Whether a method's length is the recipe's of the original training."""
    unknown: Any = _Unknown()
    entry.plan(Sizes(10, 100, 10), dict(entry.static), unknown)
    return unknown.asked


def whole_class(request: Request) -> bool:
    """Whether the request is of one class, all of it."""
    labels = np.asarray(request.stored.targets)
    requested = np.unique(labels[request.forget])
    return len(requested) == 1 and not np.isin(requested, labels[request.retain]).any()


def refusal(name: str, given: Given) -> str:
    """Why a method cannot run on what is given, a sentence; '' where nothing is known against it.

    What a model lacks (features, new weights) is found when the method is traced, see `calling.Missing`.
    """
    entry = METHODS[name]
    for need, why in NEVER.items():
        if need in entry.needs:
            return f"{name} {why}: {SAY}."
    if "classes" not in entry.reads:
        return f"{name} is defined for language models alone, not for classes: choose another method."
    if "retain" in entry.needs and not given.retain:
        return f"{name} reads retained examples: give retain=(inputs, labels)."
    if "class" in entry.needs and not whole_class(given.request):
        return f"{name} is for requests of a whole class: let forget be all of one class, or choose another method."
    if "heldout" in entry.needs and not len(given.request.heldout):
        return f"{name} reads examples that were never trained on: give heldout= or validation=(inputs, labels)."
    if "pixels" in entry.needs and not given.pixels:
        return f"{name} perturbs inputs, and these are whole numbers: give floats, or choose another method."
    if given.recipe is None and asks_for_recipe(entry):
        return f"{name} trains anew: give recipe=Recipe(...), how the model was trained, or choose another method."
    return ""


def scale_of(params: Any, inputs: Any) -> str:
    """Whose default settings fit a network, by its weights and inputs.

    Whole numbers that are no uint8 are tokens: ``small_transformer``. Kernels of four axes are convolutions:
    ``small_conv``, or ``cifar`` from a million parameters on. All else is ``small``.
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.dtype != jnp.uint8:
        return "small_transformer"
    leaves = jax.tree.leaves(params)
    if not any(len(x.shape) == 4 for x in leaves):
        return "small"
    return "cifar" if sum(int(np.prod(x.shape)) for x in leaves) >= MANY else "small_conv"


def scale_for(entry: MethodSpec, asked: str, params: Any, inputs: Any) -> str:
    """The scale asked for, or the network's, or where the method has none there, the nearest small one.

    Raises:
        InputError: an unknown scale, or one that was asked for and at which the method has no defaults.
    """
    if not isinstance(asked, str):
        raise InputError(
            f"scale is {asked!r}: give one of {', '.join(SCALES)}, or settings={{'scale': {asked!r}}} for a setting "
            f"of the method."
        )
    if not asked:
        own = scale_of(params, inputs)
        return own if has_scale(entry, own) else "small_conv"
    if not has_scale(entry, choose("scale", asked, SCALES)):
        known = ", ".join(s for s in SCALES if has_scale(entry, s))
        raise InputError(f"{entry.name} has no defaults at scale '{asked}': give one of {known}.")
    return asked
