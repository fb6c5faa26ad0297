"""Figures that weigh influence against price: the frontier, the goal, and what can be seen without any oracle.

The goal of this project, for a method of practice: residual distance, upper bound of its interval, at most a fifth of
retraining's own; accuracy on rest and on test within .3 points of the oracle's in the mean; at most a tenth of the
gradient evaluations of one training from scratch.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.metrics import Draws, combine, frontier
from unlearn_jax.metrics.frontier import drawn
from unlearn_jax.metrics.heldout import expected_margins, margin_error_draws
from unlearn_jax.metrics.summary import estimate_of

GOAL_COST, GOAL_DISTANCE, GOAL_PRICE = 0.1, 0.2, 0.3  # of a training, of retrain's distance, points
GATE = 0.95  # of the oracle's accuracy on rest: below it a model is wrecked, however near the oracle its margins are


def frontier_figures(scorer, keys, named: dict, practised: list, requests: list[int], recorder) -> None:
    """Largest price of every population, the frontier of those of practice, and the goal.

    Args:
        scorer: of the level.
        keys: ``(outcome, **more)`` -> record keys.
        named: populations at their defaults by name.
        practised: outcomes among which the frontier is drawn.
        requests: that are pooled.
        recorder: of the run.
    """
    splits = [split for split in ("rest", "test") if scorer.has(split, requests)]
    prices = {}
    for outcome in scorer.outcomes:
        if outcome.name == "oracle" or not splits:
            continue
        each = [excess(scorer, outcome, named["oracle"], split, requests) for split in splits]
        prices[id(outcome)] = drawn(_largest, *each)
        recorder.figure(keys(outcome, metric="largest_price", reference="oracle"), estimate_of(prices[id(outcome)]))
        _goal(scorer, keys, outcome, named, dict(zip(splits, each)), requests, recorder)
    passing = [o for o in practised if id(o) in prices and passes_gate(scorer, o, named["oracle"], requests)]
    if passing:
        front = frontier([scorer.distance(o, named, requests) for o in passing], [prices[id(o)] for o in passing])
        for outcome, on, share in zip(passing, front.on, front.share):
            members = len(outcome.scores.margin)
            recorder.figure(keys(outcome, metric="on_frontier", reference="oracle"), float(on), members)
            recorder.figure(keys(outcome, metric="frontier_share", reference="oracle"), float(share), members)


def passes_gate(scorer, outcome, oracle, requests: list[int]) -> bool:
    """Whether a population keeps `GATE` of the oracle's accuracy on rest: else it has no rank and no place."""
    if not scorer.has("rest", requests):
        return True
    accuracy, theirs = (scorer.draws(o, "rest", "correct", requests).value for o in (outcome, oracle))
    return bool(accuracy >= GATE * theirs)


def _largest(*each):
    return np.max(np.stack(np.broadcast_arrays(*each)), axis=0)


def excess(scorer, outcome, oracle, split: str, requests: list[int]) -> Draws:
    """Draws of the excess price in accuracy points."""
    mine, other = (scorer.draws(o, split, "correct", requests) for o in (outcome, oracle))
    return drawn(lambda u, o: 100.0 * (o - u), mine, other)


def _goal(scorer, keys, outcome, named: dict, prices: dict[str, Draws], requests, recorder) -> None:
    """Cost as a share of a training from scratch, each criterion of the goal, and whether all are met."""
    scratch, members = sum(named["original"].grad_evals), len(outcome.scores.margin)
    cost = sum(outcome.grad_evals) / scratch if scratch else float("nan")
    figure = lambda metric, value, **more: recorder.figure(keys(outcome, metric=metric, **more), float(value), members)
    figure("cost_share", cost)
    if outcome.name == "original":
        return
    met = {"cost": cost <= GOAL_COST} | {split: p.value < GOAL_PRICE for split, p in prices.items()}
    if scorer.identifiability(named, "oracle", requests).identifiable:
        distance = estimate_of(scorer.distance(outcome, named, requests), low=0.0)
        yardstick = scorer.distance(named["retrain"], named, requests).value
        met["distance"] = distance.ci_high <= GOAL_DISTANCE * yardstick
        figure("meets_goal", all(met.values()), reference="oracle")
    for name, value in met.items():
        figure(f"goal_{name}", value, reference="oracle")


def heldout_figures(scorer, keys, named: dict, requests: list[int], recorder) -> None:
    """What a practitioner could measure of every population, for the choice of settings without an oracle.

    ``heldout_margin_error`` and ``heldout_accuracy_drop`` (points) compare with the original on validation examples;
    ``request_margin_gap`` is how much surer of the request a population is than held-out examples suggest.
    """
    if not scorer.has("validation", requests):
        return
    original = named["original"]
    expected = expected_margin(scorer, original, requests)
    for outcome in scorer.outcomes:
        keyed = partial(keys, outcome, split="validation")
        error = heldout_draws(scorer, outcome, original, requests)
        recorder.figure(keyed(metric="heldout_margin_error"), estimate_of(error, low=0.0))
        lost = excess(scorer, outcome, original, "validation", requests)
        recorder.figure(keyed(metric="heldout_accuracy_drop"), estimate_of(lost))
        if np.isfinite(expected):
            on_request = scorer.draws(outcome, "forget", "margin", requests)
            gap = combine(lambda x: x - expected, on_request)
            recorder.figure(keys(outcome, split="forget", metric="request_margin_gap"), gap)


def heldout_draws(scorer, outcome, original, requests: list[int]) -> Draws:
    """Draws of how far margins of held-out examples are from the original's."""
    values = partial(scorer.values, split="validation", what="margin", requests=requests)
    config = scorer.setup.config
    setting = {"role": outcome.role, "seed": config.seed, "resamples": config.resamples}
    return margin_error_draws(values(outcome), values(original), **setting)


def expected_margin(scorer, original, requests: list[int]) -> float:
    """Mean margin of the targets that held-out examples suggest, by the embedding that the kind of data has.

    The last answer is kept: a sweep asks for that of the same originals once or twice for every method.
    """
    bench, shown = scorer.setup.bench, scorer.setup.shown
    heldout = shown[scorer.columns("validation", requests[0])]
    requested = [shown[scorer.columns("forget", r)] for r in requests]
    blocks = scorer.values(original, "validation", "margin", requests).blocks
    question = [heldout, *requested, *blocks]
    alike = lambda a, b: len(a) == len(b) and all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b))
    if not (_LAST and _LAST[0] is bench and alike(_LAST[1], question)):
        _LAST[:] = bench, question, _expected(bench, heldout, requested, blocks)
    return _LAST[2]


_LAST: list = []  # the last arguments of `expected_margin`, and its answer


def _expected(bench, heldout: np.ndarray, requested: list[np.ndarray], blocks: list[np.ndarray]) -> float:
    """The same of stored rows, and of the originals' margins on those held out, (members, examples) by request."""
    rows, margins = np.concatenate([heldout, *requested]), []
    texts = None if bench.texts is None else bench.texts[rows]
    part = Made(bench.inputs[rows], bench.targets[rows], texts)
    every = KINDS[bench.kind].embedding(part, np.arange(len(heldout)))
    start = len(heldout)
    for block, mine in zip(blocks, requested):
        alive = block[np.isfinite(block).all(axis=1)]
        if not len(alive):
            return float("nan")
        fitted = (every[: len(heldout)], bench.labels[heldout], alive.mean(axis=0))
        margins.append(expected_margins(*fitted, every[start : start + len(mine)], bench.labels[mine]))
        start += len(mine)
    return float(np.concatenate(margins).mean())
