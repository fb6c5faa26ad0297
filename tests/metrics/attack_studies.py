"""Many synthetic studies at once: do the intervals of a figure hold its truth, and its null bands fresh populations?

Studies stand side by side, so that one call of the figure serves all of them; `subset_draws` and `split_band` then see
arrays of member numbers, and look up what was found for the members that they chose.
"""

import functools

import numpy as np
import pytest

from unlearn_jax.metrics.bands import split_band, t_estimate
from unlearn_jax.metrics.resampling import subset_draws


def repeated(*counts):
    """How many studies a calibration has: the first by default, the others in the slow tests."""
    return pytest.mark.parametrize(
        "studies", [counts[0], *(pytest.param(n, marks=pytest.mark.slow) for n in counts[1:])]
    )


def holds(share, studies, low=0.91, high=0.98):
    """The share is between the bounds, by two standard errors wider where the studies are fewer than 200."""
    slack = 2 * np.sqrt(0.92 * 0.08 / studies) if studies < 200 else 0.0
    assert low - slack <= share <= high + slack, (share, studies)


def noisy(rng, studies, members, examples, mean=0.0):
    """Populations whose members and examples scatter; (members, studies, examples)."""
    return mean + rng.normal(0, 0.7, (members, studies, 1)) + rng.normal(0, 1, (members, studies, examples))


def over_studies(figure):
    """A per-example figure of (members, n, ...) as one of (members, studies, n, ...) -> (studies, n)."""
    wide = lambda p: p.reshape(len(p), -1, *p.shape[3:])
    return lambda *p: np.asarray(figure(*map(wide, p))).reshape(p[0].shape[1:3])


class Remembered:
    """A figure of all studies, found once for each choice of members."""

    def __init__(self, many, *populations):
        self.many, self.populations, self.found = many, populations, {}

    def numbers(self):
        return [np.repeat(np.arange(len(p), dtype=float)[:, None], p.shape[2], axis=1) for p in self.populations]

    def __call__(self, study, *chosen, populations=None):
        rows = [c[:, 0].astype(int) for c in chosen]
        key = tuple(r.tobytes() for r in rows)
        if key not in self.found:
            self.found[key] = self.many(*(p[r] for p, r in zip(populations or self.populations, rows)))
        return self.found[key][study]


def covered(many, populations, truth, *, roles=None, resamples=60, low=-np.inf, high=np.inf, part="ci"):
    """Share of the studies whose 95% interval, or that of members alone ("ci_members"), holds the truth."""
    known, held = Remembered(many, *populations), []
    for study in range(populations[0].shape[1]):
        draws = subset_draws(functools.partial(known, study), *known.numbers(), roles=roles, resamples=resamples)
        found = t_estimate(draws, low=low, high=high)
        held.append(getattr(found, f"{part}_low") <= truth <= getattr(found, f"{part}_high"))
    return np.mean(held)


def banded(many, oracle, fresh, *, splits=200, sides=2):
    """Share of the studies whose band, from splits of the oracle, holds the figure of two that are alike."""
    known, held, members = Remembered(many, oracle), [], len(fresh[0])
    both = lambda study: lambda a, b: known(study, a, b, populations=(oracle, oracle)).mean()
    for study, value in enumerate(many(*fresh).mean(axis=1)):
        band = split_band(both(study), known.numbers()[0], members=members, splits=splits, sides=sides)
        held.append(value <= band.high and (sides == 1 or band.low <= value))
    return np.mean(held)
