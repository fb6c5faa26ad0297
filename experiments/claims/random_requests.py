"""Random requests hide what atypical ones show."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.metrics import combine
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, told
from .read import StoredLevel, draws, ends, read_level, recognised
from .tow import gaps, scores

METHODS = "do_nothing,finetune,neggrad_plus,scrub,salun,random_label,l1_sparse"


def studies() -> dict[str, StudyConfig]:
    """The same data and methods, requests at random and of atypical samples; no copies, as in the usual benchmark."""
    common = {"copies": "0", "requests": 2, "methods": METHODS}
    return {
        "random": StudyConfig(targets="random", **common),
        "atypical": StudyConfig(targets="atypical", **common),
    }


def forgotten(level: StoredLevel):
    """Draws of the share recognised on the request by original and retrained models."""
    return [draws(level, name, "forget", recognised) for name in ("original", "retrain")]


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """What deletion changes, and what a method that does nothing scores, under both kinds of request."""
    levels = {name: read_level(runs[name], salt=number) for number, name in enumerate(("random", "atypical"))}
    random, atypical = levels["random"], levels["atypical"]
    figures = []
    for name, level in levels.items():
        change = combine(lambda a, b: 100.0 * (a - b), *forgotten(level))
        idle = combine(scores, *gaps(level, "do_nothing"), low=0.0, high=1.0)
        figures += [
            told(f"{name}: points of the request that retraining loses", change, digits=1),
            told(f"{name}: tug of war of doing nothing", idle, "near 1" if name == "random" else "below"),
            told(f"{name}: span of influence, nats", combine(lambda a, b: a - b, *ends(level))),
        ]
    wider = combine(lambda a, b, c, d: 100.0 * ((a - b) - (c - d)), *forgotten(atypical), *forgotten(random))
    passes = combine(
        lambda *s: scores(*s[:6]) - scores(*s[6:]), *gaps(random, "do_nothing"), *gaps(atypical, "do_nothing")
    )
    decide = {"expected": "above 0", "null": 0.0, "claimed": "above"}
    figures += [
        told("points lost by retraining, atypical less random", wider, digits=1, **decide),
        told("tug of war of doing nothing, random less atypical", passes, **decide),
    ]
    return ClaimResult(figures)


CLAIM = Claim(
    name="random_requests",
    title="Random requests hide what atypical ones show",
    statement="On a random request the original and the retrained model hardly differ, so that doing nothing passes "
    "the usual comparison with retraining; on a request of atypical samples it fails.",
    sources=(
        "Fan et al. 2024, Challenging Forgets, arXiv 2403.07362: evaluations rest on random data forgetting, "
        "worst-case sets show what they miss (abstract read)",
        "Zhao et al. 2024, arXiv 2406.01257: behaviours that do not materialize on random forget sets (abstract read)",
    ),
    expected="Doing nothing scores above .9 on random requests and clearly less on atypical ones; retraining loses "
    "tens of points of an atypical request and few of a random one.",
    rule="Both differences between the two kinds of request must have their whole 95% intervals above 0.",
    limits=(
        "Atypical samples are those that models not trained on them know least; Fan et al. search for the worst set.",
        "Recognised = the true label has a probability above one half, read from the margins.",
    ),
    minutes=2.0,
    studies=studies,
    estimate=estimate,
)
