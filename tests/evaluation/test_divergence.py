"""Members that blew up are told from those that forgot too much, by margins far beyond the originals'."""

import numpy as np
import pytest

from unlearn_jax.evaluation.divergence import diverged, marked
from unlearn_jax.population.evaluate import Evaluation
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import EvaluatedPopulation, level_of, methods, references
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import SILENT, prepare_study

FORGET = np.arange(30)
RNG = np.random.default_rng(0)


def margins(members=8, rows=400, centre=12.0, spread=5.0):
    return (centre + RNG.normal(0, spread, (members, rows))).astype(np.float32)


def changed(how, members=8):
    """Originals, and a population whose member 2 is changed."""
    original = margins(members)
    other = original.copy()
    other[2] = how(other[2])
    return other, original


def forgot(margin, to):
    return np.where(np.arange(len(margin)) < len(FORGET), to + margin - margin.mean(), margin)


@pytest.mark.parametrize(
    "how",
    [
        lambda m: m * np.nan,
        lambda m: m + np.inf,
        lambda m: m * 1e30,
        lambda m: m + 361,
        lambda m: m - 900,
        lambda m: m * np.where(np.arange(len(m)) % 2, 40, -40),  # to both sides, so that their mean says nothing
        lambda m: forgot(m, -2.7e30),
    ],
)
def test_a_member_that_blew_up_has_diverged(how):
    other, original = changed(how)
    assert diverged(other, original, [FORGET] * 8).tolist() == [False, False, True, *[False] * 5]


@pytest.mark.parametrize(
    "how",
    [
        lambda m: m,
        lambda m: forgot(m, -30.0),  # as scrub does
        lambda m: forgot(m, -60.0),
        lambda m: m * 0.0,
        lambda m: -m,
        lambda m: m + 40.0,
        lambda m: np.where(np.arange(len(m)) == 100, -300, m),  # one example of many
    ],
)
def test_a_member_that_forgot_too_much_or_all_has_not(how):
    other, original = changed(how)
    assert not diverged(other, original, [FORGET] * 8).any()


def test_margins_are_measured_by_the_width_of_the_originals():
    assert not diverged(margins(), margins(centre=0.0, spread=0.1), [FORGET] * 8).any()
    original = margins(centre=-400.0, spread=100.0)
    assert not diverged(original - 500.0, original, [FORGET] * 8).any()
    assert diverged(original + 9000.0, original, [FORGET] * 8).all()


def test_a_wild_member_of_the_originals_neither_hides_itself_nor_others():
    original = margins()
    original[5] *= 50
    other = margins()
    other[2] += 361
    assert diverged(original, original, [FORGET] * 8).nonzero()[0].tolist() == [5]
    assert diverged(other, original, [FORGET] * 8).nonzero()[0].tolist() == [2]


def test_members_are_judged_on_their_own_request():
    original = margins()
    other = original.copy()
    other[:, :30] -= 500  # the first request's targets alone: for members of the second they are a few among all
    own = [FORGET if i % 2 else np.arange(30, 60) for i in range(8)]
    assert diverged(other, original, own).tolist() == [False, True] * 4


def test_what_has_diverged_is_marked_and_nothing_else_changes():
    other, original = changed(lambda m: m * 1e30)
    scores = Evaluation(other, np.ones_like(other))
    found = marked(scores, original, [FORGET] * 8)
    assert np.isnan(found.margin[2]).all() and np.isnan(found.correct[2]).all()
    keep = np.arange(8) != 2
    np.testing.assert_array_equal(found.margin[keep], other[keep])
    assert np.isfinite(scores.margin).all()  # what was given stays as it was
    assert marked(Evaluation(original, original), original, [FORGET] * 8).margin is original


def test_a_study_calls_a_finite_blow_up_diverged():
    config = StudyConfig(
        train_size=120, test_size=40, num_targets=4, members=2, steps=20, copies="1", methods="scrub", resamples=20,
        similarity="exact", targets="random", hp=("scrub.lr=0.001,1e9",),
    )  # fmt: skip
    setup = prepare_study(resolve(config))
    level = level_of(setup, 1, None)
    trained, _ = references(setup, level, {}, SILENT, {}, ("original", "oracle"))
    usual, wild = methods(setup, level, trained[0], SILENT)
    assert isinstance(usual, EvaluatedPopulation) and np.isfinite(usual.scores.margin).all()
    assert np.isnan(wild.scores.margin).all()
