"""Running settings: all that share a program as one population, from the originals, at a part of the length."""

from __future__ import annotations

from typing import Any

from unlearn_jax.methods import METHODS, at_length, length_of, settings_at
from unlearn_jax.methods.runner import RunSpec, check_methods, run_method
from unlearn_jax.population.members import setting_name
from unlearn_jax.studies.populations import EvaluatedPopulation, Level, by_setting, job_of
from unlearn_jax.studies.remedies import remedied, role_of
from unlearn_jax.studies.setup import Setup, Watch
from unlearn_jax.sweeps.config import remedy_of


def programs_of(method: str, points: list[dict]) -> list[tuple[dict[str, Any], list[int]]]:
    """Static settings, which fix a program, and the numbers of the points that have them."""
    groups: dict[tuple, list[int]] = {}
    for number, point in enumerate(points):
        static = tuple(sorted((k, v) for k, v in point.items() if k in METHODS[method].static))
        groups.setdefault(static, []).append(number)
    return [(dict(static), numbers) for static, numbers in groups.items()]


def check_points(setup: Setup, level: Level, method: str, points: list[dict]) -> None:
    """Raise `InputError` for static settings that the method cannot follow, before anything is trained."""
    config = setup.config
    for static, _ in programs_of(method, points):
        settings = {method: {name: [value] for name, value in static.items()}}
        check_methods(setup.problem, level.rows, settings, setup.study.scale, config.budget, setup.shared)


def shortened(method: str, static: dict[str, Any], scale: str, share: float) -> tuple[dict[str, Any], str]:
    """Static settings at a share of the method's length, with what counts in its unit scaled alike; and the length in
    words, such as ``epochs=3``.

    Example:
        >>> shortened("scrub", {"epochs": 12}, "small", 0.25)
        ({'epochs': 3, 'max_epochs': 1, 'decay': (2, 2, 3)}, 'epochs=3')
    """
    entry = METHODS[method]
    if share == 1.0:
        return static, ""
    usual, name = settings_at(entry, scale)[0], length_of(entry)
    whole = usual | static
    assert name is not None  # halving is refused for methods without a length
    value = max(1, round(share * whole[name]))
    short = at_length(entry, whole, value)
    return {k: v for k, v in short.items() if k in static or v != usual[k]}, f"{name}={value}"


def run_points(
    setup: Setup, level: Level, original: EvaluatedPopulation, points: list[dict], share: float, watch: Watch
) -> list[EvaluatedPopulation]:
    """Run and evaluate settings of the study's one method, or, one after another, of it with the remedy around it.

    Args:
        setup: the study.
        level: its rows.
        original: the originals, with weights.
        points: settings, numeric and static.
        share: of the method's length.
        watch: progress.

    Returns:
        An outcome for each point, in order, without weights; ``budget`` says the length where it is not the method's.
    """
    job = job_of(setup, level)
    (method,) = setup.study.methods
    if remedy := remedy_of(setup.config):
        watch.stage(f"{method}+{remedy}", setup.study.members * len(points))
        return [_with_remedy(setup, level, job, original, method, remedy, point) for point in points]
    outcomes: dict[int, EvaluatedPopulation] = {}
    for static, numbers in programs_of(method, points):
        hp, length = shortened(method, static, job.scale, share)
        watch.stage(f"{method} {length}".strip(), setup.study.members * len(numbers))
        numeric = [{k: v for k, v in points[n].items() if k not in static} for n in numbers]
        done = run_method(method, job, original.population.variables, {k: [v] for k, v in hp.items()}, points=numeric)
        names = [setting_name(points[n]) for n in numbers]
        outcomes |= zip(numbers, by_setting(setup, level, original, method, done, names, length))
    return [outcomes[number] for number in range(len(points))]


def _with_remedy(
    setup: Setup, level: Level, job: RunSpec, original: EvaluatedPopulation, method: str, remedy: str, point: dict
) -> EvaluatedPopulation:
    settings = {k.partition(".")[2]: [v] for k, v in point.items() if "." in k}
    hp = {k: [v] for k, v in point.items() if "." not in k}
    ((_, done),) = remedied(setup, job, method, remedy, hp, settings, original.population.variables)
    (outcome,) = by_setting(
        setup, level, original, method, done.unlearned, [setting_name(point)],
        remedy=remedy, role=role_of(method, remedy), found=done.found,
    )  # fmt: skip
    return outcome
