"""The settings of a sweep: bounds, counts, spacing, balance, and what is refused."""

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.population.members import setting_name
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.sweeps.halving import Judged, halve, rung_shares
from unlearn_jax.sweeps.rules import hp_words
from unlearn_jax.sweeps.sampling import MAX_SETTINGS, draw_settings, parse_space
from unlearn_jax.sweeps.trials import programs_of, shortened


def drawn(words, *more, method="scrub"):
    """Settings of a sweep over these words."""
    return draw_settings(parse_space(method, words), *more)


def column(points, name):
    return np.asarray([point[name] for point in points])


def test_a_grid_is_every_combination_and_ranges_are_even():
    points = drawn(("lr=log:1e-4:1e-1:16", "scrub.alpha=.1,.5"))
    assert len(points) == 32 and [p["alpha"] for p in points[:4]] == [0.1, 0.5, 0.1, 0.5]
    rates = column(points[::2], "lr")
    assert (rates[0], rates[-1]) == (1e-4, 1e-1)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.2, atol=3e-4)
    np.testing.assert_allclose(column(drawn(("alpha=lin:0:2:5",)), "alpha"), [0, 0.5, 1, 1.5, 2])
    assert column(drawn(("epochs=lin:2:10:5",)), "epochs").tolist() == [2, 4, 6, 8, 10]
    assert column(drawn(("epochs=log:1:4:9",)), "epochs").tolist() == [1, 2, 3, 4]  # rounded, once each


def test_values_have_the_types_of_their_settings_and_studies_take_them():
    points = drawn(("decay=5+8,6", "optimizer=sgd,adam", "epochs=4,9", "lr=.01"))
    assert points[0] == {"decay": (5, 8), "optimizer": "sgd", "epochs": 4, "lr": 0.01} and len(points) == 8
    words = hp_words("scrub", "", setting_name(points[0]))
    assert resolve(StudyConfig(methods="scrub", hp=tuple(words))).settings == {
        "scrub": {k: [v] for k, v in points[0].items()}
    }
    programs = programs_of("scrub", drawn(("lr=.01,.02", "epochs=4,9")))
    assert programs == [({"epochs": 4}, [0, 2]), ({"epochs": 9}, [1, 3])]


@pytest.mark.parametrize("draw", ["random", "sobol"])
def test_draws_keep_to_their_bounds_and_are_reproducible(draw):
    words = ("lr=log:3e-4:7e-2", "alpha=lin:.05:2", "epochs=lin:2:5", "gamma=.5,1")
    points = drawn(words, draw, 64, 3)
    assert len(points) == 64 and points == drawn(words, draw, 64, 3) != drawn(words, draw, 64, 4)
    for name, low, high in (("lr", 3e-4, 7e-2), ("alpha", 0.05, 2), ("epochs", 2, 5)):
        values = column(points, name)
        assert low <= values.min() < low + 0.2 * (high - low) and values.max() <= high
    assert set(column(points, "epochs")) == {2, 3, 4, 5} and set(column(points, "gamma")) == {0.5, 1.0}
    assert all(float(f"{point['lr']:.4g}") == point["lr"] for point in points)


def test_logarithmic_draws_are_even_in_the_logarithm():
    logs = np.log10(column(drawn(("lr=log:1e-4:1e-1",), "random", 2000, 0), "lr"))
    counts = np.histogram(logs, bins=[-4, -3, -2, -1])[0]
    assert abs(counts / counts.sum() - 1 / 3).max() < 0.05


def test_sobol_draws_are_balanced_in_every_dimension_and_list():
    points = drawn(("lr=log:1e-4:1e-1", "alpha=lin:0:1", "gamma=.5,1,2,4", "epochs=lin:1:8"), "sobol", 32, 1)
    assert (np.histogram(np.log10(column(points, "lr")), bins=32, range=(-4, -1))[0] == 1).all()
    assert (np.histogram(column(points, "alpha"), bins=32, range=(0, 1))[0] == 1).all()
    assert np.unique(column(points, "gamma"), return_counts=True)[1].tolist() == [8] * 4
    assert np.unique(column(points, "epochs"), return_counts=True)[1].tolist() == [4] * 8


def test_draws_that_coincide_are_run_once():
    assert len(drawn(("epochs=lin:1:4", "gamma=1,2"), "random", 200, 0)) == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to sweep"),
        (("lr",), "is not understood"),
        (("lr=",), "is not understood"),
        (("prmq.lr=.1",), "is not understood"),
        (("speed=1",), "no hyperparameter 'speed'"),
        (("lr=.1", "lr=.2"), "twice"),
        (("lr=fast",), "give numbers"),
        (("lr=log:1e-4",), "write log:LOW:HIGH:COUNT"),
        (("lr=log:a:b:3",), "write log:LOW:HIGH:COUNT"),
        (("lr=log:1e-4:1e-1:2.5",), "write log:LOW:HIGH:COUNT"),
        (("lr=log:1e-4:1e-1:16:2",), "write log:LOW:HIGH:COUNT"),
        (("lr=log:0:1:4",), "above 0"),
        (("lr=lin:1:1:4",), "first number is below"),
        (("lr=lin:nan:1:4",), "first number is below"),
        (("lr=lin:0:1:1",), "a count of 2"),
        (("optimizer=lin:0:1:3",), "no range"),
        (("epochs=lin:1.5:4:3",), "whole numbers"),
        (("forget_batch=lin:0:4:3",), "give 1 or more"),
        (("epochs=2,x",), "whole numbers"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence(words, said):
    with pytest.raises(InputError, match=said) as told:
        parse_space("scrub", words)
    assert str(told.value).endswith(".") and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (("lr=log:1e-4:1e-1",), ("grid", 0), "has no count"),
        (("lr=.1",), ("grid", 4), "--draws is for random and sobol"),
        (("lr=log:1e-4:1e-1",), ("random", 0), "give 1 to"),
        (("lr=log:1e-4:1e-1",), ("sobol", 12), "give 8 or 16"),
        (("lr=log:1e-4:1e-1",), ("sobol", MAX_SETTINGS + 1), "give 1 to"),
        (("lr=log:1e-4:1e-1:2000", "alpha=lin:0:1:3"), ("grid", 0), "6,000 settings"),
        (("lr=.1",), ("latin", 4), "unknown draw"),
    ],
)
def test_draws_that_do_not_fit_are_one_sentence(words, more, said):
    with pytest.raises(InputError, match=said):
        drawn(words, *more)


def test_retraining_and_unknown_methods_are_not_swept():
    for method, said in (("retrain", "a reference"), ("scrubb", "unknown method")):
        with pytest.raises(InputError, match=said):
            parse_space(method, ("lr=.1",))


def test_lengths_are_cut_with_what_counts_in_their_unit():
    assert shortened("scrub", {}, "small", 1.0) == ({}, "")
    assert shortened("scrub", {}, "small", 0.3) == ({"epochs": 3, "max_epochs": 1, "decay": (2, 3, 3)}, "epochs=3")
    assert shortened("scrub", {"epochs": 2}, "small", 0.1)[1] == "epochs=1"  # never none


def test_rungs_take_parts_of_the_length_and_never_less_than_a_unit():
    assert rung_shares(27, 27, 3, 3) == [1 / 9, 1 / 3, 1.0]
    assert rung_shares(27, 8, 3, 3) == [1 / 3, 1.0]
    assert rung_shares(3, 100, 3, 3) == [1 / 3, 1.0] and rung_shares(1, 100, 3, 3) == [1.0]


def fake(noise=0.0):
    """An objective that is best at setting 5, seen less clearly at short lengths; and what was asked of it."""
    asked = []

    def judge(numbers, share):
        asked.append((share, list(numbers)))
        score = {n: abs(n - 5) * share for n in numbers}
        return [Judged((0, score[n]), (0, score[n] - noise * (1 - share)), 100.0 * share) for n in numbers]

    return judge, asked


def test_halving_keeps_the_best_and_counts_the_cost():
    judge, asked = fake()
    rungs = halve(16, [0.25, 0.5, 1.0], 2, judge)
    assert [len(rung.run) for rung in rungs] == [16, 9, 5] and 5 in rungs[-1].kept  # 9: a tie at the line stays
    assert [rung.kept for rung in rungs[:-1]] == [rung.run for rung in rungs[1:]]
    assert [(rung.share, rung.run) for rung in rungs] == asked
    assert [rung.cost for rung in rungs] == [400.0, 450.0, 500.0]


def test_only_what_is_clearly_worse_is_dropped():
    judge, _ = fake(noise=100.0)
    assert [len(rung.run) for rung in halve(16, [0.25, 1.0], 2, judge)] == [16, 16]
    judge, _ = fake(noise=1.0)
    assert len(halve(16, [0.25, 1.0], 2, judge)[-1].run) == 13  # within .75 of the line at 4 * .25


def test_without_shorter_rungs_everything_runs_whole():
    judge, asked = fake()
    (rung,) = halve(4, [1.0], 2, judge)
    assert rung.run == rung.kept == [0, 1, 2, 3] and rung.cost == 400.0 and len(asked) == 1


def test_what_may_not_be_chosen_goes_before_what_may():
    ranks = {0: (1, 0.1), 1: (0, 9.0), 2: (1, 0.05), 3: (0, 8.0)}
    judge = lambda numbers, share: [Judged(ranks[n], ranks[n], 1.0) for n in numbers]
    assert halve(4, [0.5, 1.0], 2, judge)[-1].run == [1, 3]
