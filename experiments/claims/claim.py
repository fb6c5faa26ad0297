"""What a claim is, how its figures decide on it, and the run of one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.metrics import Estimate
from unlearn_jax.studies.config import StudyConfig

AGREES, DISAGREES, NOT_TOLD = "agrees", "disagrees", "not told"
QUICK = {"members": 8, "requests": 1, "resamples": 400}  # a look, no result; more members where a claim needs them
FREE = (
    "seed", "members", "num_targets", "steps", "batch", "lr", "train_size", "test_size", "model", "resamples",
    "requests",
)  # fmt: skip


class Figure(NamedTuple):
    """A figure with its interval; where it decides, what it is without the claim and on which side the claim has it."""

    name: str
    value: float
    low: float
    high: float
    expected: str = ""  # written before the run
    null: float | None = None  # None = shown beside, decides nothing
    claimed: str = ""  # above or below the null
    digits: int = 2

    @property
    def decides(self) -> bool:
        """Whether the verdict hangs on it."""
        return self.null is not None

    @property
    def verdict(self) -> str:
        """By whether the interval lies wholly on the claim's side of the null, wholly on the other, or on both."""
        if self.null is None or not math.isfinite(self.low + self.high):
            return NOT_TOLD
        beyond, short = self.low > self.null, self.high < self.null
        if self.claimed == "below":
            beyond, short = short, beyond
        return AGREES if beyond else DISAGREES if short else NOT_TOLD


class Table(NamedTuple):
    """Figures by row and column that are shown beside the others."""

    caption: str
    heads: tuple[str, ...]  # of the columns, the first of the names
    rows: list[tuple[str, list[tuple[float, float, float] | None]]]  # name, (value, low, high) by column
    digits: tuple[int, ...]  # by column


class ClaimResult(NamedTuple):
    """What a claim's studies show."""

    figures: list[Figure]
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()  # sentences on this run


class Claim(NamedTuple):
    """A claim of the field, and how it is put to the test."""

    name: str
    title: str
    statement: str  # as it is tested here
    sources: tuple[str, ...]  # paper, number, and how far we know it
    expected: str  # direction and numbers, written before the run
    rule: str  # which figures decide, and how
    limits: tuple[str, ...]  # what differs from the source, sentences
    minutes: float  # on two quiet cores
    studies: Callable[[], dict[str, StudyConfig]]
    estimate: Callable[[dict[str, Path]], ClaimResult]
    least: int = 2  # members that the estimate needs


def told(name: str, estimate: Estimate, expected: str = "", **more) -> Figure:
    """An estimate as a figure; ``more`` as of `Figure`."""
    return Figure(name, estimate.value, estimate.ci_low, estimate.ci_high, expected, **more)


def cell(estimate: Estimate) -> tuple[float, float, float]:
    """An estimate as a cell of a table."""
    return estimate.value, estimate.ci_low, estimate.ci_high


def verdict(figures: list[Figure]) -> str:
    """Of a claim: agrees if all that decide do, disagrees if one does, else not told."""
    verdicts = [figure.verdict for figure in figures if figure.decides]
    if DISAGREES in verdicts:
        return DISAGREES
    return AGREES if verdicts and all(one == AGREES for one in verdicts) else NOT_TOLD


def sized(
    config: StudyConfig, members: int | None, quick: bool, changes: dict[str, Any], least: int = 2
) -> StudyConfig:
    """A study at the size that was asked for.

    Args:
        config: the claim's study.
        members: in each population; None = the claim's own.
        quick: a look with `QUICK`; members named beside it count.
        changes: fields that `changed` allows, in their types.
        least: members that the claim needs.

    Raises:
        InputError: fewer members than the claim needs.
    """
    if quick:
        config = dataclasses.replace(config, **QUICK | {"members": max(QUICK["members"], least)})
    size = {"members": members} if members is not None else {}
    config = dataclasses.replace(config, **size | changes)
    if config.members is not None and config.members < least:
        raise InputError(f"--members is {config.members}: this claim needs at least {least}.")
    return config


def changed(words: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the studies from NAME=VALUE.

    Raises:
        InputError: malformed words, a field that the claims fix, a value of another kind.
    """
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and value) or name not in FREE:
            raise InputError(f"--change '{word}' is not understood: write NAME=VALUE with one of {', '.join(FREE)}.")
        if name in values:
            raise InputError(f"--change names {name} twice: give one value.")
        usual = getattr(StudyConfig(), name)
        kind = str if isinstance(usual, str) else float if isinstance(usual, float) else int
        try:
            values[name] = kind(value)
        except ValueError:
            raise InputError(f"--change {name} is '{value}': give a number.") from None
    return values


def run_claim(claim: Claim, folder: Path, how: Callable[[StudyConfig], StudyConfig], study: Callable) -> dict:
    """Run a claim's studies, each in its own folder, and estimate.

    Args:
        claim: what is put to the test.
        folder: of the claim.
        how: gives each study its size.
        study: (configuration, run folder) -> None, runs a study or reads it back.

    Returns:
        The record, as it is written to claim.json, without command and environment.
    """
    configs = {name: how(config) for name, config in claim.studies().items()}
    for name, config in configs.items():
        study(config, folder / name)
    result = claim.estimate({name: folder / name for name in configs})
    return {
        "claim": claim.name,
        "title": claim.title,
        "statement": claim.statement,
        "sources": claim.sources,
        "expected": claim.expected,
        "rule": claim.rule,
        "limits": claim.limits,
        "verdict": verdict(result.figures),
        "figures": [f._asdict() | {"verdict": f.verdict if f.decides else ""} for f in result.figures],
        "tables": [table._asdict() for table in result.tables],
        "notes": result.notes,
        "studies": {name: beyond_defaults(config) for name, config in configs.items()},
    }


def beyond_defaults(config: StudyConfig) -> dict[str, Any]:
    """The fields of a study that differ from the defaults."""
    usual = dataclasses.asdict(StudyConfig())
    return {name: value for name, value in dataclasses.asdict(config).items() if value != usual[name]}
