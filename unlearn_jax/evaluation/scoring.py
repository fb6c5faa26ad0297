"""From evaluated populations to records: which figure of which population on which split against which reference."""

from __future__ import annotations

from functools import partial

import numpy as np

from unlearn_jax.data.splits import SPLITS
from unlearn_jax.evaluation.frontier import frontier_figures, heldout_figures, passes_gate
from unlearn_jax.evaluation.further import further_figures
from unlearn_jax.evaluation.language import answer_tables, language_figures
from unlearn_jax.evaluation.recorded import OF_EVERY_STUDY
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.methods import METHODS
from unlearn_jax.metrics import Estimate, Values, combine, mean_draws, price, ranks, residual_influence
from unlearn_jax.metrics.relative import relative_test
from unlearn_jax.metrics.summary import estimate_of
from unlearn_jax.roles import REFERENCES

PRICED = ("original", "retrain", "oracle")
ROW_SPLITS = ("similar", "rest", "test", "test_similar")  # where a price is paid


def level_keys(setup, level) -> dict:
    """The record keys that all figures of a level have."""
    return {
        "dataset": setup.dataset.name,
        "model": setup.study.model,
        "targets": setup.config.targets,
        "similarity": setup.config.similarity,
        "copies": level.copies,
        "gamma": float(level.rows[0].gamma),
    }


def score_level(setup, level, outcomes, extra: dict, recorder, carriers: tuple[Values, Values] | None = None) -> list:
    """Write every figure of one level; ``carriers`` as of `carriers.carried`; returns notes for the manifest."""
    speaks, config = setup.problem.task.candidates is not None, setup.config
    scorer = Scorer(setup, level, outcomes, answer_tables(setup, outcomes) if speaks else None)
    base = level_keys(setup, level)
    every = list(range(config.requests))
    groups = [("all", every)] + ([(str(r), [r]) for r in every] if config.requests > 1 else [])
    _member_rows(scorer, base, recorder)
    for request, requests in groups:
        _figures(scorer, base | {"request": request}, requests, recorder)
    keys = partial(_keys, base | {"request": "all"})
    further_figures(scorer, keys, outcomes, setup.study.metrics, every, recorder, recorded=OF_EVERY_STUDY)
    _costs(scorer, base | {"request": "all"}, recorder)
    _weighed(scorer, base | {"request": "all"}, every, recorder)
    _extras(base | {"request": "all"}, extra, recorder)
    _found(scorer, base | {"request": "all"}, recorder)
    if carriers is not None:
        _carried(scorer, base | {"request": "all"}, carriers, recorder)
    return [_diverged_note(o, level.copies) for o in outcomes if _diverged(o)]


def _diverged(outcome) -> int:
    """Members whose scores are not finite."""
    return int((~np.isfinite(outcome.scores.margin).all(axis=1)).sum())


def _diverged_note(outcome, copies: int) -> str:
    return f"{outcome.label} at {copies} copies: {_diverged(outcome)} of {len(outcome.scores.margin)} members diverged"


def _keys(base: dict, outcome, **more) -> dict:
    return (
        base
        | {"method": outcome.method, "remedy": outcome.remedy, "setting": outcome.setting, "budget": outcome.budget}
        | more
    )


def _member_rows(scorer: Scorer, base: dict, recorder) -> None:
    """Accuracy and margin of each member on each split, NaN for a member that diverged."""
    level, config = scorer.level, scorer.setup.config
    for outcome in scorer.outcomes:
        for split in SPLITS:
            for metric, what in (("accuracy", "correct"), ("margin", "margin")):
                for request in range(config.requests):
                    if not scorer.has(split, [request]):
                        continue
                    mean = getattr(outcome.scores, what)[:, scorer.columns(split, request)].mean(axis=1)
                    mine = [m if r == request else None for m, r in zip(mean, level.request_of)]
                    name = "all" if config.requests == 1 else str(request)
                    recorder.member_values(_keys(base, outcome, split=split, metric=metric, request=name), mine)


def _figures(scorer: Scorer, base: dict, requests: list[int], recorder) -> None:
    """Raw means, residuals and prices of every population."""
    named = {o.name: o for o in scorer.outcomes if not o.setting}
    for outcome in scorer.outcomes:
        for split in SPLITS:
            if scorer.has(split, requests):
                for metric, what in (("accuracy", "correct"), ("margin", "margin")):
                    mean = estimate_of(scorer.draws(outcome, split, what, requests))
                    recorder.figure(_keys(base, outcome, split=split, metric=metric), mean)
                    _prices(scorer, base, outcome, named, split, what, requests, recorder)
        if outcome.name != "oracle":
            _residuals(scorer, base, outcome, named, requests, recorder)
        if scorer.tables:
            language_figures(scorer, _keys(base, outcome), outcome, named, requests, recorder)
    _ranking(scorer, base, named, requests, recorder)
    for reference in ("oracle", "retrain"):
        _identifiability(scorer, base, named, reference, requests, recorder)


def _identifiability(scorer, base, named, reference: str, requests, recorder) -> None:
    """The original's margin beyond a reference's, that reference's null band, and whether the two are identifiable."""
    result = scorer.identifiability(named, reference, requests)
    keys = partial(_keys, base, split="forget", reference=reference)
    recorder.figure(keys(named["original"], metric="influence_span"), result.span)
    recorder.figure(keys(named[reference], metric="null_band"), result.band, result.span.n)
    recorder.figure(keys(named[reference], metric="null_band_ratio"), result.band_ratio, result.span.n)
    recorder.figure(keys(named[reference], metric="identifiable"), float(result.identifiable), result.span.n)


def _prices(scorer, base, outcome, named, split, what, requests, recorder) -> None:
    """Price against each priced reference but itself."""
    unit = "accuracy" if what == "correct" else "margin"
    for reference in PRICED:
        if split in ROW_SPLITS and outcome.name != reference:
            price_draws = price(
                scorer.draws(outcome, split, what, requests),
                scorer.draws(named[reference], split, what, requests),
                unit=unit,
            )
            keys = _keys(base, outcome, split=split, metric=f"price_{unit}", reference=reference)
            recorder.figure(keys, price_draws)


def _residuals(scorer, base, outcome, named, requests, recorder) -> None:
    """Signed residual against oracle and retrain, the distance, and what both differ by from retrain's own."""
    draws = {n: scorer.draws(named[n], "forget", "margin", requests) for n in PRICED}
    mine = scorer.draws(outcome, "forget", "margin", requests)
    keys = partial(_keys, base, outcome, split="forget")
    recorder.figure(
        keys(metric="residual_influence", reference="oracle"),
        residual_influence(mine, draws["original"], draws["oracle"]),
    )
    distance = scorer.distance(outcome, named, requests)
    recorder.figure(keys(metric="residual_distance", reference="oracle"), estimate_of(distance, low=0.0))
    for reference in ("oracle", "retrain"):
        if outcome.name not in ("original", reference):
            three = (outcome, named[reference], named["original"])
            test = relative_test(*(scorer.values(one, "forget", "margin", requests).blocks for one in three))
            recorder.figure(keys(metric="relative_p", reference=reference), test.p_value, test.members)
    if outcome.name == "retrain":
        return
    against = residual_influence(mine, draws["original"], draws["retrain"])
    identified = scorer.identifiability(named, "retrain", requests)
    if not identified.span.ci_low >= 3.0 * identified.band:  # nothing left to be a share of: a ratio to noise
        against = Estimate(*[float("nan")] * 5, n=against.n)
    recorder.figure(keys(metric="residual_vs_retrain", reference="retrain"), against)
    signed = combine(
        lambda u, r, full, none: (u - r) / (full - none),
        *(mine, draws["retrain"], draws["original"], draws["oracle"]),
    )
    recorder.figure(keys(metric="residual_difference", reference="retrain"), signed)
    apart = combine(lambda u, r: u - r, distance, scorer.distance(named["retrain"], named, requests))
    recorder.figure(keys(metric="distance_difference", reference="retrain"), apart)


def _ranking(scorer, base, named, requests, recorder) -> None:
    """Rank of every method of practice that keeps the accuracy on rest, by residual distance; and whether it does."""
    passing = {id(o): passes_gate(scorer, o, named["oracle"], requests) for o in scorer.outcomes}
    for outcome in scorer.outcomes:
        keys = _keys(base, outcome, metric="passes_gate", reference="oracle")
        recorder.figure(keys, float(passing[id(outcome)]), len(outcome.scores.margin))
    ranked = [o for o in scorer.outcomes if _of_practice(o) and passing[id(o)]]
    if len(ranked) > 1:
        places = ranks([scorer.distance(o, named, requests) for o in ranked])
        for outcome, rank in zip(ranked, places):
            keys = _keys(base, outcome, split="forget", metric="distance_rank", reference="oracle")
            recorder.figure(keys, rank)


def _of_practice(outcome) -> bool:
    """Whether a method could be used where no other retrained model is at hand, and does anything."""
    if outcome.method in REFERENCES:
        return False  # training anew at full cost is what the others are held against, whatever it leaves out
    return not METHODS[outcome.method].needs & ({"reference"} if outcome.remedy else {"reference", "nothing"})


def _weighed(scorer: Scorer, base: dict, requests: list[int], recorder) -> None:
    """Influence against price, and what can be seen without an oracle, requests pooled."""
    named, keys = {o.name: o for o in scorer.outcomes if not o.setting}, partial(_keys, base)
    practised = [o for o in scorer.outcomes if _of_practice(o)]
    frontier_figures(scorer, keys, named, practised, requests, recorder)
    heldout_figures(scorer, keys, named, requests, recorder)


def _costs(scorer: Scorer, base: dict, recorder) -> None:
    """Diverged members, seconds and gradient evaluations of each population."""
    for outcome in scorer.outcomes:
        members = len(outcome.scores.margin)
        figures = {
            "n_diverged": float(_diverged(outcome)),
            "seconds": outcome.population.seconds,
            "grad_evals_forget": outcome.grad_evals[0],
            "grad_evals_retain": outcome.grad_evals[1],
        }
        for metric, value in figures.items():
            recorder.figure(_keys(base, outcome, metric=metric), value, members)


def _found(scorer: Scorer, base: dict, recorder) -> None:
    """How well each remedy that searched found the similar samples: precision, recall and number, over requests."""
    level = scorer.level
    for outcome in scorer.outcomes:
        if outcome.found is None:
            continue
        first = [int(np.flatnonzero(level.request_of == r)[0]) for r in range(scorer.setup.config.requests)]
        figures = [found_quality(level.rows[r], outcome.found[i]) for r, i in enumerate(first)]
        for metric, values in zip(("found_precision", "found_recall", "found_rows"), zip(*figures)):
            defined = [value for value in values if np.isfinite(value)]
            if defined:
                recorder.figure(_keys(base, outcome, split="similar", metric=metric), float(np.mean(defined)))


def found_quality(rows, found: np.ndarray) -> tuple[float, float, float]:
    """Precision and recall of what a search took for similar samples S, NaN where there are none; and how many.

    Args:
        rows: splits of the request.
        found: rows that the search took.
    """
    hits = float(np.isin(found, rows.similar).sum())
    precision = hits / len(found) if len(found) else float("nan")
    return precision, hits / len(rows.similar) if len(rows.similar) else float("nan"), float(len(found))


def _carried(scorer: Scorer, base: dict, carriers: tuple[Values, Values], recorder) -> None:
    """Share of what clusters say of their targets that the similar samples say, by influence under the originals."""
    config = scorer.setup.config
    of_target, similar = (mean_draws(v, seed=config.seed, resamples=config.resamples) for v in carriers)
    keys = base | {"method": "original", "split": "forget", "metric": "carried_by_similar"}
    recorder.figure(keys, combine(lambda s, o: s / (s + o), similar, of_target))


def _extras(base: dict, extra: dict, recorder) -> None:
    """Measured similarity of the copies and the duplicate detector's quality."""
    for name, value in extra.items():
        if isinstance(value, dict):
            keys = base | {"method": "original", "split": "similar", "metric": f"similarity_{name}"}
            recorder.figure(keys, value["mean"])
        elif np.isfinite(value):
            recorder.figure(base | {"method": "dedup", "split": "similar", "metric": name}, value)
