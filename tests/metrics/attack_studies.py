"""Many synthetic studies at once: do the intervals of a figure hold its truth, and its null bands fresh populations?

Studies stand side by side along the examples, so that one call of the figure serves all of them; `subset_draws` and
`split_band` then see arrays of member numbers, and look up what was found for the members that they chose.
"""

import functools

import numpy as np

from unlearn_jax.metrics.bands import split_band, t_estimate
from unlearn_jax.metrics.resampling import subset_draws


def noisy(rng, studies, members, examples, mean=0.0):
    return mean + rng.normal(0, 0.7, (members, studies, 1)) + rng.normal(0, 1, (members, studies, examples))


def side_by_side(figure, *populations):
    """A per-example figure of all studies by one call; populations (members, studies, n, ...) -> (studies, n)."""
    studies, examples = populations[0].shape[1:3]
    wide = [p.reshape(len(p), -1, *p.shape[3:]) for p in populations]
    return np.asarray(figure(*wide)).reshape(studies, examples)


class Remembered:
    """A figure of all studies, found once for each choice of members."""

    def __init__(self, figure, *populations):
        self.figure, self.populations, self.found = figure, populations, {}

    def numbers(self):
        return [np.repeat(np.arange(len(p), dtype=float)[:, None], p.shape[2], axis=1) for p in self.populations]

    def __call__(self, study, *chosen, populations=None):
        rows = [c[:, 0].astype(int) for c in chosen]
        key = tuple(r.tobytes() for r in rows)
        if key not in self.found:
            parts = [p[r] for p, r in zip(populations or self.populations, rows)]
            self.found[key] = side_by_side(self.figure, *parts)
        return self.found[key][study]


def covered(figure, populations, truth, *, roles=None, resamples=100, low=-np.inf, high=np.inf):
    """Share of the studies whose 95% interval holds the truth."""
    known, held = Remembered(figure, *populations), []
    for study in range(populations[0].shape[1]):
        own = functools.partial(known, study)
        draws = subset_draws(own, *known.numbers(), roles=roles, resamples=resamples)
        found = t_estimate(draws, low=low, high=high)
        held.append(found.ci_low <= truth <= found.ci_high)
    return np.mean(held)


def banded(figure, oracle, fresh, *, splits=200):
    """Share of the studies whose band, from an oracle of twice the members, holds fresh populations.

    ``fresh`` holds the two populations, (members, studies, n, ...), that differ in nothing but their noise.
    """
    known, held = Remembered(figure, oracle), []
    values = side_by_side(figure, *fresh).mean(axis=1)
    both = lambda study: lambda a, b: known(study, a, b, populations=(oracle, oracle)).mean()
    for study, value in enumerate(values):
        band = split_band(both(study), known.numbers()[0], splits=splits)
        held.append(band.low <= value <= band.high)
    return np.mean(held)
