"""What a sweep is asked for, and what can be refused before anything is read or trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, length_of, settings_at
from unlearn_jax.remedies import remedy_settings, select_remedies
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.hyperparameters import check_size
from unlearn_jax.studies.resolve import Study, resolve
from unlearn_jax.studies.validate import check
from unlearn_jax.sweeps.halving import rung_shares
from unlearn_jax.sweeps.rules import RULES
from unlearn_jax.sweeps.sampling import Axis, draw_settings, parse_space
from unlearn_jax.sweeps.spaces import expanded


@dataclass(frozen=True)
class SweepConfig:
    """Which settings of which method are tried, how, and by what they are chosen."""

    method: str = ""
    """registered method; its hyperparameters are swept by --hp NAME=.1,.5 NAME=log:1e-4:1e-1:16 NAME=lin:0:1:5, or
    --hp auto, the space declared for it; several with commas, core or all: a sweep of each, and one preset file"""
    seeds: int = 8
    """members of every setting, and of the references"""
    draw: str = "grid"
    """grid (all combinations), random or sobol, which take --draws settings from lists and ranges without a count"""
    draws: int = 0
    """settings drawn; of sobol a power of two"""
    halving: int = 0
    """successive halving: after each rung about one setting in this many goes on, 2 or more; 0 = all run whole"""
    rungs: int = 3
    """most rungs of halving; each next one takes that many times the length, the last the method's own"""
    rule: str = "margins"
    """by what settings are dropped and chosen, without any oracle: margins, request, heldout, attack or retain"""
    oracle: bool = True
    """train the oracle too, and say what the choice without it costs; without it nothing but originals is trained"""
    defaults: bool = True
    """try the method's default settings besides"""


def study_of(sweep: SweepConfig, study: StudyConfig) -> Study:
    """The study whose originals and targets the sweep takes, resolved and checked.

    Raises:
        InputError: what a sweep sets itself is given, or the configuration is bad.
    """
    if not sweep.method:
        raise InputError("no method is given: say which to sweep, such as --method scrub --hp lr=log:1e-4:1e-1:16.")
    for name, instead in (("methods", "--method"), ("members", "--seeds"), ("presets", "--hp")):
        if getattr(study, name) != getattr(StudyConfig(), name):
            raise InputError(f"--{name} is for studies: leave it out, and give {instead}.")
    METHODS.pick(sweep.method)
    remedy = remedy_of(study)
    choose("rule", sweep.rule, RULES)
    check_one_gamma(study)
    check_members("--seeds", sweep.seeds, study.requests)
    config = dataclasses.replace(study, methods=sweep.method, remedies=remedy, members=sweep.seeds, hp=())
    resolved = resolve(config)
    check(resolved)
    _check_halving(sweep, study)
    return resolved


def check_members(option: str, members: int, requests: int) -> None:
    """Raise `InputError` where a request has one member, of which no distance is known."""
    if members < 2 * max(1, requests):
        several = f" with {requests} requests: give at least {2 * requests}" if requests > 1 else ": give at least 2"
        raise InputError(f"{option} is {members}{several}, or no spread is known.")


def check_one_gamma(study: StudyConfig) -> None:
    """Raise `InputError` where several identified shares are given, of which only one would be looked at."""
    if len(shares := resolve(study).gammas) > 1:
        raise InputError(f"--gamma names {len(shares)} shares, and all is at one of them: give one.")


def remedy_of(study: StudyConfig) -> str:
    """The remedy around the method that is swept, '' for none; `InputError` where there are several."""
    names = select_remedies(study.remedies)
    if len(names) > 1:
        raise InputError("--remedies names several: a sweep is of one method with one remedy around it, give one.")
    return "".join(names)


def _check_halving(sweep: SweepConfig, study: StudyConfig) -> None:
    """Raise `InputError` where the method's length cannot be cut as asked."""
    if sweep.rungs < 1:
        raise InputError(f"--rungs is {sweep.rungs}: give at least 1.")
    for name in ("rungs", "halving", "draws"):
        check_size(f"--{name}", getattr(sweep, name))
    if not sweep.halving:
        return
    if sweep.halving < 2:
        raise InputError(f"--halving is {sweep.halving}: give 2 or more, or 0 for none.")
    if remedy_of(study):
        raise InputError("--halving cuts the length of a method alone: leave it out with --remedies.")
    if length_of(METHODS[sweep.method]) is None:
        raise InputError(f"'{sweep.method}' has no length that could be cut: leave --halving out.")
    if study.budget:
        raise InputError("--budget sets the length that --halving cuts: give one of the two.")


def candidates(sweep: SweepConfig, asked: StudyConfig, study: Study) -> tuple[list[Axis], list[dict[str, Any]]]:
    """The axes, and the settings that are tried; {} = the method's defaults.

    Raises:
        InputError: see `parse_space` and `draw_settings`.
    """
    words = expanded(sweep.method, asked.hp, study.scale, sweep.draw == "grid")
    axes = parse_space(sweep.method, words, remedy_of(study.config))
    points = draw_settings(axes, sweep.draw, sweep.draws, asked.seed)
    usual = defaults_of(sweep.method, study)
    if sweep.defaults and not any(is_default(point, usual) for point in points):
        points.append({})
    return axes, points


def is_default(point: dict[str, Any], usual: dict[str, Any]) -> bool:
    """Whether a setting is the method's own."""
    return point == {name: usual[name] for name in point}


def defaults_of(method: str, study: Study) -> dict[str, Any]:
    """The method's own settings at the study's scale, and those of the remedy as REMEDY.NAME."""
    static, numeric = settings_at(METHODS[method], study.scale)
    remedy = remedy_of(study.config)
    settings = remedy_settings(remedy) if remedy else {}
    return static | numeric | {f"{remedy}.{name}": value for name, value in settings.items()}


def shares_of(sweep: SweepConfig, study: Study, points: list[dict]) -> list[float]:
    """Shares of the method's length that are run, by the shortest of the settings; [1] without halving."""
    if not sweep.halving:
        return [1.0]
    usual, name = defaults_of(sweep.method, study), length_of(METHODS[sweep.method])
    shortest = min((usual | point)[name] for point in points)
    return rung_shares(len(points), shortest, sweep.halving, sweep.rungs)


def asked_of(sweep: SweepConfig, study: StudyConfig) -> dict[str, Any]:
    """What was asked for, as it is recorded and compared; without what came later, where that is not used."""
    fields = {name: value for name, value in dataclasses.asdict(study).items() if value or name != "metrics"}
    return json.loads(json.dumps({"sweep": dataclasses.asdict(sweep), "study": fields}))


def sweep_name(sweep: SweepConfig, study: StudyConfig) -> str:
    """A folder name that says what is swept and differs where the configuration does."""
    digest = hashlib.sha256(json.dumps(asked_of(sweep, study), sort_keys=True).encode()).hexdigest()[:6]
    names = sweep.method.replace(" ", "").split(",")
    swept = "+".join(names) if len(names) < 4 else f"{len(names)}-methods"
    swept += f"+{study.remedies}" if study.remedies else ""
    return f"sweep-{swept}-{resolve(study).dataset_name}-{digest}"
