"""The choice of a shipped default over several sizes of the request."""

import numpy as np
import pytest

from unlearn_jax.evaluation.frontier import expected_margin
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.methods import METHODS, settings_at
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import level_of, references
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import SILENT, prepare_study
from unlearn_jax.sweeps.by_size import FACTORS, KEPT, Seen, best, points_of, seen_at

NAN = float("nan")


def test_the_score_takes_too_much_forgetting_for_as_bad_as_too_little():
    assert Seen("", 99, 4.0, 0.0).score == Seen("", 99, 0.0, 1.0).score == Seen("", 99, 0.0, -1.0).score == 1.0
    assert np.isnan(Seen("", 99, 1.0, NAN).score)


@pytest.mark.parametrize(
    "sizes, place",
    [
        ([[(99, 0, 2), (99, 0, 1)], [(99, 0, -2), (99, 0, 3)]], 0),  # in the mean over sizes: 2 against 2
        ([[(99, 0, 2), (99, 0, 1)], [(99, 0, -2), (99, 0, 2.5)]], 1),
        ([[(99, 0, 2), (99, 0, 1)], [(99, 0, -2), (97, 0, 0)]], 0),  # 97% at one size is not allowed
        ([[(99, 0, 2), (99, 0, 1)], [(99, 0, NAN), (97.9, 0, NAN)]], 0),  # nor of a whole class
        ([[(99, 0, 2), (99, 0, 1)], [(99, 0, NAN), (99, 9, NAN)]], 1),  # which has no score
        ([[(99, NAN, NAN), (99, 0, 9)]], 1),  # what is not known is never best
        ([[(10, 0, 0), (97.9, 0, 0)]], None),
        ([[(10, 0, 0), (98, 0, NAN)], [(99, 0, 0), (98, 0, NAN)]], 1),
    ],
)
def test_best_is_allowed_at_every_size_and_has_the_smallest_mean_score(sizes, place):
    assert best([[Seen(str(n), *figures) for n, figures in enumerate(size)] for size in sizes]) == place


def test_points_are_multiples_of_the_default_at_the_studys_scale():
    for name in METHODS:
        for point in points_of(name, StudyConfig(dataset="bulletins")):
            (key,) = point
            assert key in METHODS[name].numeric or key in METHODS[name].static
    for scale, dataset in (("small", "digits"), ("small_text", "bulletins")):
        usual = settings_at(METHODS["finetune"], scale)[1]["lr"]
        found = [p["lr"] for p in points_of("finetune", StudyConfig(dataset=dataset))]
        np.testing.assert_allclose(found, [usual * factor for factor in FACTORS], rtol=0.05)
    assert points_of("retrain", StudyConfig()) == []


def test_figures_are_of_retained_held_out_and_requested_examples(tmp_path):
    config = StudyConfig(targets="random", copies="1", members=2, steps=30)
    grids = {"gradient_ascent": [{"lr": 0.0}, {"lr": 0.003}], "unsir": [{"lr": 0.1}], "eu_k": [{"k": 9}]}
    found = dict(seen_at(config, grids, store=tmp_path))
    still, moved = found["gradient_ascent"]
    assert "requests of a whole class" in found["unsir"]  # what does not run says why
    assert "give 1 up to that many" in found["eu_k"]  # nor does what the method cannot follow
    setup = prepare_study(resolve(config), SILENT, store=tmp_path)
    level = level_of(setup, 1, None)
    (original,), _ = references(setup, level, {}, SILENT, {}, roles=("original",))
    rows, shown = level.rows[0], setup.shown
    retained = np.isin(shown, np.concatenate([rows.rest, rows.similar]))
    truth = 100 * original.scores.correct[:, retained].mean()
    np.testing.assert_allclose(still.kept, truth, atol=1e-4)
    assert still.moved == pytest.approx(0.0, abs=1e-4) and moved.moved > 0.01
    assert still.gap - moved.gap > 0.1 and 0 < moved.kept <= 100
    scorer = Scorer(setup, level, [original])
    own = original.scores.margin[:, np.searchsorted(shown, rows.forget)].mean()
    assert still.gap == pytest.approx(own - expected_margin(scorer, original, [0]), abs=1e-3)


@pytest.mark.slow
def test_of_texts_what_perturbs_pixels_says_why_it_does_not_run(tmp_path):
    config = StudyConfig(dataset="bulletins", targets="random", copies="0", members=2, steps=5)
    found = dict(seen_at(config, {"rurk": [{"lr": 0.1}]}, store=tmp_path))
    assert list(found) == ["rurk"] and "perturbs pixels" in found["rurk"]


@pytest.mark.slow
def test_of_a_whole_class_there_is_no_score():
    config = StudyConfig(targets="whole_class", copies="0", members=2, steps=40)
    ((_, (one,)),) = seen_at(config, {"finetune": [{"lr": 0.01}]})
    assert np.isnan(one.gap) and one.kept > 50
    assert KEPT == 98
