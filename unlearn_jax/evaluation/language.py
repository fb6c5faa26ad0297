"""The figures of a language model's answers: what it gives back, and how that compares with models that never knew.

Truth ratios are taken on held-out statements, where a right answer in new words stands beside every other value of its
attribute: `test_similar` for the targets, `test` for facts that stay. Membership scores tell the targets, as they were
stated, from test statements.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from unlearn_jax.metrics import Values, forget_quality_interval, mean_estimate, model_utility
from unlearn_jax.metrics.language import answer_probability
from unlearn_jax.metrics.memorization_text import (
    exact_memorisation,
    extraction_strength,
    membership_auc,
    min_k,
    min_k_plus_plus,
    privleak,
    rouge_l_recall,
    zlib_score,
)
from unlearn_jax.metrics.summary import estimate_of
from unlearn_jax.metrics.tofu import TRUTH_RATIOS, forget_quality, truth_ratio, truth_ratio_scores
from unlearn_jax.types import Batch

AGAINST = ("retrain", "oracle")
KEPT = ("rest", "test")  # where utility is measured
EVERYWHERE = ("answer_probability", "rouge_l")  # on every split
OF_REQUEST = ("exact_memorisation", "extraction_strength")
ATTACKS = ("loss", "min_k", "min_k_plus_plus", "zlib")  # all higher for what looks like training text
UTILITY = tuple(f"{split}_{part}" for split in KEPT for part in ("probability", "rouge", "truth_ratio"))


def answer_tables(setup, outcomes) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Per-example quantities (members, shown examples) of each population, by (name, setting) and then by name."""
    bench, shown = setup.bench, setup.shown
    inputs, targets = jnp.asarray(bench.inputs[shown]), jnp.asarray(bench.targets[shown])
    batch = Batch(inputs, targets, jnp.ones(len(shown)), jnp.arange(len(shown), dtype=jnp.int32))
    true = np.asarray(setup.problem.task.candidates.truth(batch))
    length = outcomes[0].scores.spoken.logprob.shape[2]
    answers = bench.targets[shown][bench.targets[shown] >= 0].reshape(-1, length)
    texts = [" ".join(setup.dataset.about.words[token] for token in row) for row in answers]
    return {(o.name, o.setting): _tables(o.scores, answers, true, texts) for o in outcomes}


def _tables(scores, answers: np.ndarray, true: np.ndarray, texts: list[str]) -> dict[str, np.ndarray]:
    """The quantities of one population; NaN for members that diverged."""
    finite = np.isfinite(scores.margin).all(axis=1)
    spoken, greedy = scores.spoken, scores.greedy[finite]
    logprob, mean, std, likeliest = (table[finite] for table in spoken)
    mask, length = np.ones(answers.shape), answers.shape[1]
    probable = answer_probability(logprob, mask)
    among = scores.scores[finite].astype(np.float64)
    right = np.take_along_axis(among, true[None, :, None], axis=2)[..., 0]
    wrong = among[:, np.arange(among.shape[2])[None, :] != true[:, None]].reshape(*right.shape, among.shape[2] - 1)
    losses = -right / length, -wrong / length  # per token
    ratio, log = truth_ratio(*losses), {v: truth_ratio(*losses, variant=v, log=True) for v in TRUTH_RATIOS}
    tables = {
        "answer_probability": probable.probability,
        "share": np.exp(right - np.logaddexp.reduce(among, axis=2)),
        "rouge_l": np.stack([rouge_l_recall(list(one), list(answers)) for one in greedy]) if len(greedy) else right,
        "exact_memorisation": exact_memorisation(likeliest, answers, mask),
        "extraction_strength": extraction_strength(likeliest, answers, mask),
        "log_truth_ratio": log["paper"],
        "log_truth_ratio_public": log["public"],
        "truth_ratio_forget": truth_ratio_scores(ratio, "forget"),
        "truth_ratio_retain": truth_ratio_scores(ratio, "retain"),
        "loss": -probable.loss,
        "min_k": min_k(logprob, mask),
        "min_k_plus_plus": min_k_plus_plus(logprob, mean, std, mask),
        "zlib": -zlib_score(probable.logprob, texts),
    }
    return {name: _with_diverged(values, finite) for name, values in tables.items()}


def _with_diverged(values: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """The rows of living members in their places, NaN in all others."""
    whole = np.full((len(finite), *values.shape[1:]), np.nan)
    whole[finite] = values
    return whole


def language_figures(scorer, keys: dict, outcome, named: dict, requests: list[int], recorder) -> None:
    """Every figure of one population's answers; ``keys`` are the record's, without split and metric."""
    record = partial(_record, recorder, keys)
    for split in ("forget", "similar", "rest", "test", "test_similar"):
        for what in (*EVERYWHERE, *(OF_REQUEST if split == "forget" else ())):
            if scorer.has(split, requests):
                record(split, what, estimate_of(scorer.draws(outcome, split, what, requests)))
    for split, aggregate in (("test_similar", "truth_ratio_forget"), ("test", "truth_ratio_retain")):
        for what in (aggregate, "log_truth_ratio", "log_truth_ratio_public"):
            if scorer.has(split, requests):
                record(split, what, estimate_of(scorer.draws(outcome, split, what, requests)))
    setting = {"seed": scorer.setup.config.seed, "resamples": scorer.setup.config.resamples}
    members = lambda blocks: Values([b[:, None] for b in blocks], outcome.role)
    record("rest", "model_utility", mean_estimate(members(_utility(scorer, outcome, requests)), **setting))
    aucs = {what: _auc(scorer, outcome, what, requests) for what in ATTACKS}
    for what, blocks in aucs.items():
        record("forget", f"auc_{what}", mean_estimate(members(blocks), **setting))
    for reference in AGAINST:
        if outcome.name != reference:
            _against(scorer, record, outcome, named[reference], requests, setting)


def _record(recorder, keys: dict, split: str, metric: str, estimate, reference: str = "") -> None:
    recorder.figure(keys | {"split": split, "metric": metric, "reference": reference}, estimate)


def _against(scorer, record, outcome, reference, requests: list[int], setting: dict) -> None:
    """Forget quality (D, and p of members paired by number) and PrivLeak against one reference population."""
    pair = [scorer.values(o, "test_similar", "log_truth_ratio", requests) for o in (outcome, reference)]
    roles = outcome.role, reference.role
    distance = forget_quality_interval(*pair, roles=roles, **setting)
    record("test_similar", "forget_quality_distance", distance, reference.name)
    p = [forget_quality(a, b).p_value[:, None] for a, b in zip(*(v.blocks for v in pair))]
    record("test_similar", "forget_quality", mean_estimate(Values(p, outcome.role), **setting), reference.name)
    ours, theirs = (_auc(scorer, o, "min_k", requests) for o in (outcome, reference))
    leak = [np.asarray(privleak(a, np.nanmean(b)))[:, None] for a, b in zip(ours, theirs)]
    record("forget", "privleak", mean_estimate(Values(leak, outcome.role), **setting), reference.name)


def _auc(scorer, outcome, what: str, requests: list[int]) -> list[np.ndarray]:
    """By request, each member's area under the curve that tells targets from test statements; (members,)."""
    pair = [scorer.values(outcome, split, what, requests).blocks for split in ("forget", "test")]
    return [np.asarray(membership_auc(inside, outside)) for inside, outside in zip(*pair)]


def _utility(scorer, outcome, requests: list[int]) -> list[np.ndarray]:
    """By request, each member's harmonic mean of probability, ROUGE-L recall and truth ratio on `KEPT`; (members,)."""
    mean = lambda split, what: [b.mean(axis=1) for b in scorer.values(outcome, split, what, requests).blocks]
    parts = {"rest_probability": mean("rest", "answer_probability"), "test_probability": mean("test", "share")}
    for split in KEPT:
        parts |= {f"{split}_rouge": mean(split, "rouge_l"), f"{split}_truth_ratio": mean(split, "truth_ratio_retain")}
    utilities = []
    for number in range(len(requests)):
        of_request = {name: blocks[number] for name, blocks in parts.items()}
        finite = np.all(np.isfinite(list(of_request.values())), axis=0)
        living = model_utility({name: values[finite] for name, values in of_request.items()}, names=UTILITY)
        utilities.append(_with_diverged(np.asarray(living), finite))
    return utilities
