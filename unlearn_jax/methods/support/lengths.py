"""How long a method runs: its plan at given sizes, and the greatest length that a budget allows."""

from __future__ import annotations

from typing import Any, cast

from unlearn_jax.errors import InputError
from unlearn_jax.methods.support.common import MethodSpec, Recipe, TrainSpec
from unlearn_jax.population.plans import Plan, Sizes

LONGEST = 10_000  # of a method's length: a plan is a table in memory
LENGTHS = ("epochs", "rounds", "steps")  # the setting by which a budget stretches a method


def plan_of(entry: MethodSpec, sizes: Sizes, static: dict[str, Any], recipe: Recipe) -> Plan:
    """An entry's plan, which counts the examples that passes over sets of these sizes really have.

    Raises:
        InputError: a length above `LONGEST`.
    """
    length = length_of(entry)
    if length and static[length] > LONGEST:
        raise InputError(f"{entry.name}.{length} is {static[length]:,}: give at most {LONGEST:,}.")
    return entry.plan(sizes, static, recipe)._replace(forget_size=sizes.forget, retain_size=sizes.retain)


def length_of(entry: MethodSpec) -> str | None:
    """The setting by which a budget stretches a method, if it has one."""
    return next((name for name in LENGTHS if name in entry.static), None)


def at_length(entry: MethodSpec, static: dict[str, Any], value: int) -> dict[str, Any]:
    """Static settings with another length, and with those that count in its unit scaled alike and rounded up.

    Example:
        >>> from unlearn_jax.methods import METHODS
        >>> at_length(METHODS["scrub"], {"epochs": 10, "max_epochs": 3, "decay": (5, 8, 9)}, 40)
        {'epochs': 40, 'max_epochs': 12, 'decay': (20, 32, 36)}
    """
    length = cast(str, length_of(entry))
    scaled = lambda x: tuple(map(scaled, x)) if isinstance(x, tuple) else -(-x * value // static[length])
    return static | {length: value} | {name: scaled(static[name]) for name in entry.stretched}


def within_budget(entry: MethodSpec, static: dict, sizes: Sizes, problem: TrainSpec, budget: float) -> dict[str, Any]:
    """Static settings with the greatest length at which the method's plan costs at most ``budget``.

    Methods without a length (one shot, or all of their work before the plan) come back as they are. What a method
    spends before its plan (`MethodSpec.begin`) is not part of the budget.
    """
    if length_of(entry) is None:
        return static

    def cost(value: int) -> float:
        plan = plan_of(entry, sizes, at_length(entry, static, value), problem.recipe)
        return plan.grad_evals_forget + plan.grad_evals_retain

    if cost(1) > budget:
        raise InputError(
            f"a budget of {budget:g} gradient evaluations is below the least of '{entry.name}', {cost(1):g}: "
            f"give at least that, or leave the method out."
        )
    low, high = 1, 2
    while cost(high) <= budget and (cost(high) > cost(1) or high < 1024):  # some costs rise in whole passes only
        low, high = high, min(2 * high, LONGEST)
        if low == LONGEST:
            raise InputError(
                f"a budget of {budget:g} gradient evaluations asks for over {LONGEST:,} {length_of(entry)} of "
                f"'{entry.name}': give less."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return at_length(entry, static, low)
