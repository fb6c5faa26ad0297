"""Times of the metrics that the audits use, on random margins; called by speed.py --audits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _timing import timed

REPEATS = 3


class Case(NamedTuple):
    """One metric at one size."""

    name: str
    size: str
    limit: float  # seconds that it is meant to take at most, NaN = none
    call: Callable[[], object]


def cases() -> list[Case]:
    """Every metric with its arrays, made beforehand."""
    from unlearn_jax.metrics import (
        energy_distance,
        forgetting_epsilon,
        gaussian_kl,
        klom,
        lira,
        neighbour_exposure,
        rmia,
        split_band,
        subset_draws,
        svc_attack,
        u_lira,
        u_lira_cross_fitted,
        wasserstein_1,
    )

    rng = np.random.default_rng(0)
    some = lambda members, examples, mean=0.0: rng.normal(mean, 2.0, (members, examples))
    few, many, wide = (some(128, 24, 2.0), some(128, 24)), (some(200, 10_000, 1.0), some(200, 10_000)), []
    wide += [some(128, 10_000, mean) for mean in (1.0, 0.0, 1.0, 0.0)]
    trained = np.repeat([True, False], 128)[:, None] & np.ones(10_000, bool)
    shadows, probabilities = np.concatenate(wide[:2]), [1.0 / (1.0 + np.exp(-x)) for x in wide]
    logits, labels = (
        [rng.normal(size=(32, n, 10)) for n in (30, 360, 1400)],
        [np.arange(n) % 10 for n in (30, 360, 1400)],
    )
    targets = some(32, 30, 1.0), some(32, 30)
    attack = lambda: svc_attack(logits[0], logits[2], logits[1], labels[0], labels[2], labels[1])
    return [
        Case("forgetting_epsilon", "24 x 128 + 128", 0.3, lambda: forgetting_epsilon(*few)),
        Case("klom", "10,000 x 200 + 200", 2.0, lambda: klom(*many)),
        Case("u_lira", "10,000 x 128 + 128, as many observed", 1.0, lambda: u_lira(*wide)),
        Case("u_lira_cross_fitted", "10,000 x 128 + 128", np.nan, lambda: u_lira_cross_fitted(*wide[:2])),
        Case("lira", "10,000 x 256, 128 targets", np.nan, lambda: lira(shadows, trained, wide[2])),
        Case("rmia", "10,000 + 10,000 x 128, 128 targets", np.nan,
             lambda: rmia(probabilities[0], probabilities[2], out_x=probabilities[1], out_z=probabilities[3])),
        Case("neighbour_exposure", "10,000 x 128 + 128 + 128", np.nan, lambda: neighbour_exposure(*wide[:3])),
        Case("gaussian_kl", "10,000 x 200 + 200", np.nan, lambda: gaussian_kl(*many)),
        Case("energy_distance", "10,000 x 200 + 200", np.nan, lambda: energy_distance(*many)),
        Case("wasserstein_1", "10,000 x 200 + 200", np.nan, lambda: wasserstein_1(*many)),
        Case("svc_attack", "32 models, 30 + 360 + 1,400", np.nan, attack),
        Case("subset_draws of klom", "400 draws, 30 x 32 + 32", np.nan, lambda: subset_draws(klom, *targets)),
        Case("split_band of klom", "200 splits, 30 x 64", np.nan,
             lambda: split_band(lambda a, b: klom(a, b).mean(), np.concatenate(targets), sides=1)),
    ]  # fmt: skip


def measure() -> list[dict]:
    """Time every case and print a line each; the rows."""
    rows = []
    print(f"{'metric':<22} {'examples x models':<38} {'seconds':>8} {'meant to be under':>18}")
    for case in cases():
        _, seconds = timed(case.call, REPEATS)
        limit = "" if np.isnan(case.limit) else f"{case.limit:.1f}"
        print(f"{case.name:<22} {case.size:<38} {seconds:>8.3f} {limit:>18}", flush=True)
        rows.append({"metric": case.name, "size": case.size, "seconds": seconds})
    return rows
