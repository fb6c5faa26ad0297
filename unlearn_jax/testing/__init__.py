"""Checks for the user's own methods: the contract that every built-in method is held to.

With pytest, a test of a method is one line, see `check_method`; `unlearn_jax.testing.fixtures` has it as a fixture, and
nothing else here needs pytest.
"""

from __future__ import annotations

from typing import Any

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.common import MethodSpec
from unlearn_jax.testing.contract import Case, Trial
from unlearn_jax.testing.rules import RULES


def check_method(
    entry: MethodSpec,
    settings: dict[str, Any] | None = None,
    *,
    other: dict[str, float] | None = None,
    cost: tuple[int, float, float] | None = None,
    skip: tuple[str, ...] = (),
) -> None:
    """Hold a method to the contract, on eight members that have memorised 10 of 50 toy images of 3 classes.

    Some 15 seconds on two CPU cores, most of them to compile. `RULES` has the rules: finite, deterministic, a member
    alone as beside others, no talk between devices, no effect of examples of weight 0 or in no set, every numeric
    setting has an effect, the declared needs, batch statistics and cost hold, the request is forgotten and the rest is
    not. Start the process with ``XLA_FLAGS=--xla_force_host_platform_device_count=4`` to see several devices.

    Args:
        entry: the method, in the registry or not.
        settings: its settings on so small a study, static or numeric: about 20 updates; none = the entry's own.
        other: a second value of every numeric setting; none = half of the first.
        cost: updates, gradient evaluations on the request and on the retained data at these settings, counted by hand,
            for 10 requested and 40 retained examples; none = not held against a count.
        skip: names of rules that the method breaks by design.

    Raises:
        AssertionError: the method breaks rules; a line for each says how.
        InputError: an unknown setting or rule.

    Example:
        >>> from unlearn_jax import METHODS
        >>> check_method(METHODS["finetune"]._replace(numeric={"lr": 0.01}), {"epochs": 6, "batch": 16})
    """
    for name in skip:
        choose("rule", name, RULES)
    counted: Any = cost or (None,)
    trial, broken = Trial(entry, Case(settings or {}, other, *counted, skip=tuple(skip))), []
    _ = trial.made  # a setting that it does not have is the caller's mistake, not the method's
    for name, rule in RULES.items():
        if name in skip or not rule.when(entry):
            continue
        try:
            rule.check(trial)
        except Exception as error:
            problem = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            broken.append(f"{name}: {' '.join(problem.split())[:400]}")
    if broken:
        lines = "\n  ".join(broken)
        raise AssertionError(f"method '{entry.name}' breaks {len(broken)} of the contract's rules:\n  {lines}")


__all__ = ["RULES", "Case", "Trial", "check_method"]
