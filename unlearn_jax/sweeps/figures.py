"""The figures of a sweep: what a practitioner could measure, and apart from that what looks at the oracle."""

from __future__ import annotations

from functools import partial

import numpy as np

from unlearn_jax.evaluation.frontier import excess, expected_margin, heldout_draws, heldout_figures
from unlearn_jax.evaluation.further import further_figures
from unlearn_jax.evaluation.scoring import level_keys
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.metrics import Draws, Estimate, Values, combine, mean_draws, residual_influence
from unlearn_jax.metrics.population_attacks import threshold_attack
from unlearn_jax.studies.populations import EvaluatedPopulation, Level
from unlearn_jax.studies.setup import Setup
from unlearn_jax.sweeps.rules import score_of


def keys_of(setup: Setup, level: Level):
    """``(outcome, **more) -> record keys``."""
    base = level_keys(setup, level) | {"request": "all"}

    def keys(outcome: EvaluatedPopulation, **more) -> dict:
        names = {
            "method": outcome.method,
            "remedy": outcome.remedy,
            "setting": outcome.setting,
            "budget": outcome.budget,
        }
        return base | names | more

    return keys


def blind(level: Level) -> Level:
    """The level as a practitioner sees it: similar samples are retained samples like all others."""
    kept = lambda r: np.sort(np.concatenate([r.similar, r.rest]))
    return level._replace(rows=[r._replace(rest=kept(r), similar=r.similar[:0]) for r in level.rows])


def seen_figures(
    setup: Setup, level: Level, original: EvaluatedPopulation, outcomes: list[EvaluatedPopulation], recorder
) -> None:
    """Every figure that a choice may look at, and what the runs cost.

    Beside those of `heldout_figures`: ``retained_accuracy_drop``, points lost on retained samples against the original;
    ``attack_auc``, how often a request's margin is above a held-out one's (one threshold on one model's margins), and
    ``attack_advantage``, how far that is from one half.
    """
    level, keys = blind(level), keys_of(setup, level)
    scorer, every = Scorer(setup, level, outcomes), list(range(setup.config.requests))
    heldout_figures(scorer, keys, {"original": original}, every, recorder)
    for outcome in outcomes:
        lost = excess(scorer, outcome, original, "rest", every)
        recorder.figure(keys(outcome, split="rest", metric="retained_accuracy_drop"), combine(lambda x: x, lost))
        _attack(scorer, outcome, partial(keys, outcome, split="forget"), every, recorder)
        members = outcome.scores.margin
        figures = {
            "n_diverged": float((~np.isfinite(members).all(axis=1)).sum()),
            "seconds": outcome.population.seconds,
            "grad_evals_forget": outcome.grad_evals[0],
            "grad_evals_retain": outcome.grad_evals[1],
        }
        for metric, value in figures.items():
            recorder.figure(keys(outcome, metric=metric), value, len(members))


def gains(
    setup: Setup,
    level: Level,
    original: EvaluatedPopulation,
    usual: EvaluatedPopulation,
    outcomes: list[EvaluatedPopulation],
    rule: str,
) -> list[Estimate]:
    """By how much each outcome's score by a rule is smaller than that of ``usual``, the method at its defaults.

    Members and clusters are drawn alike for both, so an interval above 0 says that the outcome is better by the rule.
    """
    scorer, every = Scorer(setup, blind(level), outcomes), list(range(setup.config.requests))
    expected = expected_margin(scorer, original, every)

    def draws(outcome: EvaluatedPopulation) -> tuple[Draws, Draws]:
        gap = scorer.draws(outcome, "forget", "margin", every)
        if rule == "retain":
            return excess(scorer, outcome, original, "rest", every), gap
        if rule == "attack":
            return _attack_draws(scorer, outcome, every), gap
        return heldout_draws(scorer, outcome, original, every), gap

    def score(figure, margin):
        seen = {"heldout_margin_error": figure, "retained_accuracy_drop": figure}
        seen |= {"request_margin_gap": margin - expected, "attack_advantage": np.abs(figure - 0.5)}
        return score_of(seen, rule)

    better = lambda figure, margin, own, mine: score(figure, margin) - score(own, mine)
    first = draws(usual)
    return [combine(better, *first, *draws(outcome)) for outcome in outcomes]


def _attack_draws(scorer: Scorer, outcome: EvaluatedPopulation, requests: list[int]) -> Draws:
    """Draws of the AUC of an attack by a threshold, over members of all requests."""
    requested, heldout = (
        scorer.values(outcome, split, "margin", requests).blocks for split in ("forget", "validation")
    )
    blocks = [threshold_attack(f, t).auc[:, None] for f, t in zip(requested, heldout)]
    config = scorer.setup.config
    return mean_draws(Values(blocks, outcome.role), seed=config.seed, resamples=config.resamples)


def _attack(scorer: Scorer, outcome: EvaluatedPopulation, keys, requests: list[int], recorder) -> None:
    if not scorer.has("validation", requests):
        return
    draws = _attack_draws(scorer, outcome, requests)
    recorder.figure(keys(metric="attack_auc"), combine(lambda x: x, draws, low=0.0, high=1.0))
    recorder.figure(keys(metric="attack_advantage"), combine(lambda x: np.abs(x - 0.5), draws, low=0.0, high=0.5))


def asked_figures(
    setup: Setup,
    level: Level,
    original: EvaluatedPopulation,
    oracle: EvaluatedPopulation | None,
    outcomes: list[EvaluatedPopulation],
    recorder,
) -> None:
    """What ``--metrics`` asks for, against the oracle where there is one; without it of single models alone."""
    level = level if oracle else blind(level)
    scorer, every = Scorer(setup, level, outcomes), list(range(setup.config.requests))
    beside = (original, oracle) if oracle else (original,)
    further_figures(scorer, keys_of(setup, level), outcomes, setup.study.metrics, every, recorder, beside)


def identifiable(
    setup: Setup, level: Level, original: EvaluatedPopulation, oracle: EvaluatedPopulation | None
) -> bool | None:
    """Whether distances from the oracle exceed the noise, see `identifiability`; None without an oracle."""
    if oracle is None:
        return None
    named, every = {"original": original, "oracle": oracle}, list(range(setup.config.requests))
    return bool(Scorer(setup, level, list(named.values())).identifiability(named, "oracle", every).identifiable)


def oracle_figures(
    setup: Setup,
    level: Level,
    original: EvaluatedPopulation,
    oracle: EvaluatedPopulation,
    outcomes: list[EvaluatedPopulation],
    recorder,
) -> dict[str, Draws]:
    """Residual influence and distance, and excess prices; no choice without the oracle may look at them.

    Returns the draws of the distances by setting, which share members and clusters.
    """
    scorer, every, keys = Scorer(setup, level, outcomes), list(range(setup.config.requests)), keys_of(setup, level)
    named = {"original": original, "oracle": oracle}
    margins = {name: scorer.draws(one, "forget", "margin", every) for name, one in named.items()}
    distances = {}
    for outcome in outcomes:
        margin, mine = scorer.draws(outcome, "forget", "margin", every), partial(keys, outcome, reference="oracle")
        signed = residual_influence(margin, margins["original"], margins["oracle"])
        recorder.figure(mine(split="forget", metric="residual_influence"), signed)
        distance = distances[outcome.setting] = scorer.distance(outcome, named, every)
        recorder.figure(mine(split="forget", metric="residual_distance"), combine(lambda x: x, distance, low=0.0))
        for split in ("similar", "rest", "test"):
            if scorer.has(split, every):
                lost = excess(scorer, outcome, oracle, split, every)
                recorder.figure(mine(split=split, metric="price_accuracy"), combine(lambda x: x, lost))
    return distances
