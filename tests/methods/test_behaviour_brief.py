"""Brief retraining: what it costs, and that it takes the original's confidence and nothing else from it."""

import jax
import numpy as np
import protocol
import pytest
import toy

from unlearn_jax.methods import METHODS, brief_retrain, prepare
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.plans import Sizes
from unlearn_jax.trees import take_members

STATIC = METHODS["brief_retrain"].static


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(steps=200, batch=32), Recipe(steps=3000, batch=256)])
def test_training_and_calibration_together_use_the_share_and_no_more(recipe, share):
    static = STATIC | {"share": share}
    plan = brief_retrain.plan(Sizes(30, 1000), static, recipe)
    spent = plan.grad_evals_retain + brief_retrain.PER_EXAMPLE * brief_retrain.examples_of(static, recipe)
    whole = recipe.steps * recipe.batch
    assert share * whole - plan.retain_batch < spent <= share * whole
    assert plan.grad_evals_forget == 0


def test_a_share_too_small_for_an_update_still_makes_one():
    assert brief_retrain.plan(Sizes(1, 1), STATIC | {"share": 1e-6}, toy.RECIPE).steps == 1


@pytest.fixture(scope="module")
def trained():
    """The context of 4 members, originals by the whole recipe, and briefly trained ones."""
    own = protocol.context(4, recipe=Recipe(steps=120, batch=16, lr=0.02))
    fold, plan, hp = own.training
    original = own.train("original", fold, plan, own.everything, hp=hp)
    fold, plan, hp = prepare("brief_retrain", own.problem, {"batch": 16, "lr": 0.01, "share": 0.3})
    return own, original, own.train("brief", fold, plan, own.kept, hp=hp)


def test_the_last_layer_is_scaled_until_heldout_margins_are_the_originals(trained):
    own, original, brief = trained
    rows = own.heldout[0]
    after, (forget, retain) = brief_retrain.end(own, STATIC | {"share": 1.0}, original, brief)
    wanted, before, now = (own.margins(v, rows).mean(axis=1) for v in (original, brief, after))
    assert (wanted > 0).all() and np.abs(before / wanted - 1).max() > 0.2
    np.testing.assert_allclose(now, wanted, rtol=0.05)
    assert (forget, retain) == (0.0, pytest.approx(4 / 3 * len(rows)))
    head, factor = after["params"].pop("head"), []
    for one, other in zip(jax.tree.leaves(head), jax.tree.leaves(brief["params"]["head"])):
        factor.append(
            np.sum(one * other, axis=tuple(range(1, one.ndim))) / np.sum(other**2, axis=tuple(range(1, one.ndim)))
        )
        by = factor[-1].reshape(-1, *[1] * (one.ndim - 1))
        np.testing.assert_allclose(one, by * other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(factor[0], factor[1], rtol=1e-5)
    toy.same(after["params"], {name: part for name, part in brief["params"].items() if name != "head"})


def test_members_of_several_settings_are_each_held_against_their_own_original(trained):
    own, original, brief = trained
    twice = take_members(brief, np.tile(np.arange(4), 2))
    once, _ = brief_retrain.end(own, STATIC | {"share": 1.0}, original, brief)
    both, _ = brief_retrain.end(own, STATIC | {"share": 1.0}, original, twice)
    for setting in (0, 1):
        for one, other in zip(jax.tree.leaves(both["params"]), jax.tree.leaves(once["params"])):
            np.testing.assert_allclose(one[4 * setting : 4 * setting + 4], other, rtol=1e-4, atol=1e-6)


def test_held_out_examples_that_were_trained_on_do_not_calibrate(trained):
    own, original, brief = trained
    seen = own._replace(heldout=[toy.KEPT[:5]] * 4)
    after, spent = brief_retrain.end(seen, STATIC | {"share": 1.0}, original, brief)
    assert after is brief and spent == (0.0, 0.0)
    assert brief_retrain.end(own, STATIC | {"calibrate": 0}, original, brief) == (brief, (0.0, 0.0))


def test_no_factor_is_taken_from_margins_that_say_nothing_of_confidence():
    wanted, now = np.array([2.0, -1.0, 2.0, np.nan, 2.0, 100.0]), np.array([1.0, 1.0, -1.0, 1.0, np.nan, 1.0])
    np.testing.assert_array_equal(brief_retrain._factor(wanted, now), [2, 1, 1, 1, 1, brief_retrain.LARGEST])
