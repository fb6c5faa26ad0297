"""What every method must do, as rules that are each checked on one toy population, compiled once a method.

Members know 40 kept examples and have memorised 10 requested ones, of which the method unlearns; the model has batch
normalisation. A rule is a function of a `Trial` that raises `AssertionError` with what is wrong in a sentence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods import prepare_entry
from unlearn_jax.methods.support.common import MethodSpec
from unlearn_jax.population.members import member_keys
from unlearn_jax.population.plans import Plan, uniform_plan
from unlearn_jax.population.program import Fold
from unlearn_jax.population.run import Options
from unlearn_jax.testing import protocol, toy
from unlearn_jax.types import Population, Variables

MEMBERS = 8
CHANCE = float(np.log(toy.CLASSES))
FALL = 0.6  # of chance, the mean loss on retained data that a method may leave


class Case(NamedTuple):
    """A method's settings on the toy, and what is known of it by hand there."""

    settings: dict[str, Any] = {}  # static or numeric, for at most about 20 updates
    other: dict[str, float] | None = None  # a second value of every numeric one, by which weights must differ
    steps: int | None = None  # updates; none = not counted by hand
    forget: float = 0.0  # gradient evaluations on the request
    retain: float = 0.0  # and on retained data
    skip: tuple[str, ...] = ()  # rules that the method breaks by design


class Trial:
    """A method on the toy; what takes a program is made when a rule first asks for it, and kept."""

    def __init__(self, entry: MethodSpec, case: Case):
        self.entry, self.case, self.model = entry, case, toy.normed()

    @property
    def original(self) -> Variables:
        """The members that know the request."""
        return memorised()

    @functools.cached_property
    def made(self) -> tuple[Fold, Plan, dict[str, float]]:
        """Fold, plan and numeric values at the case's settings."""
        return prepare_entry(self.entry, toy.problem(self.model), self.case.settings, toy.SIZES)

    @functools.cached_property
    def static(self) -> dict[str, Any]:
        """Static settings of the case."""
        return {key: self.case.settings.get(key, value) for key, value in self.entry.static.items()}

    @functools.cached_property
    def start(self) -> Variables:
        """What the method starts from on the unchanged toy."""
        return self.begun(self.original)

    @functools.cached_property
    def unlearned(self) -> Population:
        """The method's population; the first use compiles it."""
        return self.run()

    @functools.cached_property
    def other(self) -> dict[str, float]:
        """A second value of every numeric hyperparameter."""
        if self.case.other is not None:
            return self.case.other
        return {key: value / 2 if value and np.isfinite(value) else 0.1 for key, value in self.made[2].items()}

    def begun(self, original: Variables, **given) -> Variables:
        """What the method makes of some originals before its plan begins; ``given`` as of `protocol.job`."""
        if self.entry.begin is None:
            return original
        return self.entry.begin(protocol.context(MEMBERS, model=self.model, **given), self.static, original)[0]

    def run(self, *, hp=None, keys=None, start=None, loop="scan", **given) -> Population:
        """The method on the toy, in part with other arguments."""
        fold, plan, numeric = self.made
        return toy.train(
            fold=fold,
            plan=plan,
            hp=numeric | (hp or {}),
            keys=member_keys(0, self.entry.name, MEMBERS) if keys is None else keys,
            start=self.start if start is None else start,
            options=Options(chunk=MEMBERS, loop=loop),
            **given,
        )

    def gaps(self, population: Population) -> np.ndarray:
        """(N,) the largest difference of any parameter from the unchanged run, by member."""
        return toy.gap(population.variables, self.unlearned.variables)

    def losses(self, variables: Variables, rows: np.ndarray, *, before: bool = False) -> np.ndarray:
        """(N,) mean loss of each member on some rows, by the model that the result, or the original, is judged with."""
        data, result_model = toy.stored(), None if before else self.entry.model
        classify = _logits(self.model if result_model is None else result_model(toy.problem(self.model), self.static))
        logits = classify(jax.tree.map(jnp.asarray, variables), data.inputs)[:, rows]
        log = np.asarray(jax.nn.log_softmax(logits))
        return -np.take_along_axis(log, np.asarray(data.targets)[rows][None, :, None], 2).mean(axis=(1, 2))


class Rule(NamedTuple):
    """One line of the contract."""

    check: Callable[[Trial], None]
    when: Callable[[MethodSpec], bool] = lambda entry: True  # of which methods it is asked


@functools.cache
def memorised() -> Variables:
    """Variables of the members that know the kept examples and have memorised the request; read only."""
    fold, _, numeric = toy.method("retrain", model=toy.normed())
    everything = np.concatenate([toy.KEPT, toy.REQUESTED])
    plan, sets = uniform_plan(96, retain_batch=toy.RECIPE.batch), toy.tables(MEMBERS, kept=everything)
    hp = numeric | {"lr": 0.05}
    return toy.train(fold=fold, plan=plan, hp=hp, sets=sets, options=Options(chunk=MEMBERS)).variables


@functools.lru_cache(maxsize=8)
def _logits(model):
    """Logits (N, rows, K) of all stored examples; one program a model."""
    return jax.jit(jax.vmap(lambda own, inputs: model.apply(own, inputs)[0].logits, in_axes=(0, None)))


def changed(rows: np.ndarray):
    """The toy's examples with other pixels and labels in some rows."""
    inputs, targets = toy.examples()
    inputs[rows] = -inputs[rows] + 0.3
    targets[rows] = (targets[rows] + 1) % toy.CLASSES
    return toy.stored(inputs, targets)


def require(condition: Any, said: str) -> None:
    """Raise `AssertionError` with a sentence unless a condition holds."""
    if not condition:
        raise AssertionError(said)
