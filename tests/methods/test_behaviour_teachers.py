"""Methods that distil a teacher without labels: the bad teacher and DELETE; by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import softmax
from steps import PLAIN, SGD, backward, begin, both, difference, divergence, followed, logits, nudged, other, update

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.support.common import Recipe

# --- bad teacher ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bad_teachers_loss_is_a_mean_over_the_mixtures_examples(temperature, teacher, student):
    state, given = begin("bad_teacher", teacher, static=SGD)._replace(params=student), both()
    _, loss = update("bad_teacher", state, given, temperature=temperature, static=SGD)
    bad = divergence(*(logits(p, given.forget) for p in (state.extra["bad"]["params"], student)), temperature)
    good = divergence(*(logits(p, given.retain) for p in (teacher["params"], student)), temperature)
    assert float(loss) == pytest.approx((bad.sum() + good.sum()) / 13, rel=1e-4)  # not over 13 x classes


def test_bad_teachers_gradient_at_the_original_is_that_of_the_request_alone(teacher):
    state, given = begin("bad_teacher", teacher, static=SGD), both()
    after, _ = update("bad_teacher", state, given, static=SGD, **PLAIN)
    own, bad = (softmax(logits(p, given.forget), axis=1) for p in (teacher["params"], state.extra["bad"]["params"]))
    followed(teacher["params"], after.params, backward(teacher["params"], given.forget.inputs, (own - bad) / 13)[0])


def test_the_incompetent_teacher_is_drawn_by_key_and_nobody_reads_labels(teacher):
    first, second = (begin("bad_teacher", teacher, key=key, static=SGD) for key in (1, 2))
    toy.same(first.extra["good"], teacher)
    for a, b in ((first, second), (first, first._replace(extra={"bad": teacher}))):
        assert difference(a.extra["bad"]["params"], b.extra["bad"]["params"]) > 0.1
    broken = jax.tree.map(lambda x: x * jnp.nan, teacher)
    toy.same(begin("bad_teacher", broken, static=SGD).extra["bad"], first.extra["bad"])
    given, moved = both(), first._replace(params=nudged(teacher["params"]))
    blind = given._replace(
        **{part: getattr(given, part)._replace(targets=jnp.zeros_like(getattr(given, part).targets))
           for part in ("forget", "retain")}
    )  # fmt: skip
    toy.same(*(update("bad_teacher", moved, some, static=SGD)[0].params for some in (given, blind)))


def test_bad_teachers_mixture_holds_the_request_and_the_share_of_the_rest():
    sizes = toy.SIZES._replace(forget=100, retain=1000)
    plan = METHODS["bad_teacher"].plan(sizes, METHODS["bad_teacher"].static | {"epochs": 4, "batch": 40}, Recipe())
    assert plan.steps == 4 * 10 and (plan.forget_batch, plan.retain_batch) == (10, 30)


# --- DELETE --------------------------------------------------------------------------------------------------------


def test_delete_distils_the_original_without_the_true_class(teacher, student):
    state, some = begin("delete", teacher)._replace(params=student), both().forget
    after, loss = update("delete", state, both(), **PLAIN)
    true = np.eye(toy.CLASSES)[np.asarray(some.targets)] > 0
    own, found = softmax(logits(teacher["params"], some), axis=1), softmax(logits(student, some), axis=1)
    target = np.where(true, 0.0, own) / np.where(true, 0.0, own).sum(axis=1, keepdims=True)
    ratio = np.divide(target, found, out=np.ones_like(target), where=~true)
    assert float(loss) == pytest.approx((target * np.log(ratio)).sum(axis=1).mean(), rel=1e-4)
    slope = (found - target) / 5  # the true logit's is its probability
    assert (slope[true] > 0.05 / 5).all()
    followed(student, after.params, backward(student, some.inputs, slope)[0])
    toy.same(after.extra, teacher)
    toy.same(update("delete", state, both(retain=other(both().retain)), **PLAIN)[0].params, after.params)
