"""SCRUB and SCRUB+R as published, and faults seen in public implementations of them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import batch, begin, both, difference, divergence, finish, logits, losses, update

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, scrub, scrub_r
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import Options
from unlearn_jax.population.shuffle import slots
from unlearn_jax.types import Batch

# --- SCRUB ---------------------------------------------------------------------------------------------------------

MAX, MIN = scrub.MAX, scrub.MIN
NONE = {"weight_decay": 0.0}
SMALL = scrub.ENTRY.static | {"forget_batch": 4, "pieces": 0, "batch": 16}  # 3 max and 3 min updates an epoch
UNDECAYED = {
    "weight_decay": 0.0,
    "bound": np.inf,
    "lr": 0.02,
    "forget_batch": 4,
    "pieces": 0,
    "batch": 16,
    "epochs": 10,
}


@pytest.fixture(scope="module")
def away(teacher, student):
    """SCRUB's state some way off the teacher, where the distance between the two has a gradient."""
    return begin("scrub", teacher)._replace(params=student)


@pytest.mark.parametrize("epochs, max_epochs", [(1, 1), (2, 5), (3, 0), (10, 3), (5, 5)])
def test_scrub_always_ends_on_min(epochs, max_epochs):
    kinds = scrub.plan(toy.SIZES, SMALL | {"epochs": epochs, "max_epochs": max_epochs}, Recipe()).phase
    assert (
        kinds[-1] == MIN and (kinds == MAX).sum() == 3 * min(epochs, max_epochs) and (kinds == MIN).sum() == 3 * epochs
    )


@pytest.mark.parametrize("size, forget_batch", toy.some([(10, 4), (33, 32), (1, 4), (7, 32), (32, 32), (100, 4)], 2))
def test_a_max_pass_shows_every_requested_example(size, forget_batch):
    plan = scrub.plan(Sizes(size, 40), SMALL | {"forget_batch": forget_batch}, Recipe())
    high = plan.phase == MAX
    passes = plan.forget_step[high].reshape(3, -1)
    assert len(np.unique(passes)) == passes.size and passes.shape[1] * plan.forget_batch < size + plan.forget_batch
    length = jnp.int32(plan.forget_pass)
    drawn = jax.vmap(lambda step: slots(jax.random.key(2), step, plan.forget_batch, jnp.int32(size), length))
    at, live = (np.asarray(x).reshape(3, -1) for x in jax.jit(drawn)(jnp.asarray(passes.ravel())))
    for rows, held in zip(at, live):
        np.testing.assert_array_equal(np.sort(rows[held]), np.arange(size))


def test_scrub_alternates_and_divides_the_rate_by_ten_after_the_published_epochs():
    plan = scrub.plan(toy.SIZES, SMALL, Recipe())
    np.testing.assert_array_equal(plan.phase, ([MAX] * 3 + [MIN] * 3) * 3 + [MIN] * 3 * 7)
    epoch = np.repeat(np.arange(1, 11), [6] * 3 + [3] * 7)
    expected = 0.1 ** ((epoch > 5).astype(float) + (epoch > 8) + (epoch > 9))
    np.testing.assert_allclose(plan.rate, expected, rtol=1e-6)
    still = scrub.plan(toy.SIZES, SMALL | {"decay": ()}, Recipe())
    np.testing.assert_array_equal(still.rate, 1.0)


def test_the_distillation_term_equals_its_closed_form():
    rng = np.random.default_rng(0)
    t, s, weight = rng.normal(size=(6, 4)), 3 * rng.normal(size=(6, 4)), np.array([1, 1, 0.5, 0, 1, 0.25])
    some = Batch(None, None, jnp.asarray(weight, jnp.float32), None)
    for temperature in (1.0, 2.0, 5.0):
        found = scrub.distillation(
            jnp.asarray(t, jnp.float32), jnp.asarray(s, jnp.float32), some, jnp.float32(temperature)
        )
        expected = (weight * divergence(t, s, temperature)).sum() / weight.sum()  # a mean over examples, not classes
        assert float(found) == pytest.approx(expected, rel=1e-5)
    equal = jnp.asarray(t, jnp.float32)
    assert abs(float(scrub.distillation(equal, equal, some, jnp.float32(2.0)))) < 1e-6


def test_scrubs_losses_are_the_published_ones(away, teacher):
    own, given = away.params, both()
    _, high = update("scrub", away, both(phase=MAX), temperature=3.0, bound=np.inf)
    some = given.forget
    assert float(high) == pytest.approx(
        -divergence(logits(teacher["params"], some), logits(own, some), 3.0).mean(), rel=1e-4
    )
    _, low = update("scrub", away, both(phase=MIN), temperature=3.0, alpha=0.3, gamma=0.7)
    some = given.retain
    soft = divergence(logits(teacher["params"], some), logits(own, some), 3.0).mean()
    assert float(low) == pytest.approx(0.7 * losses(own, some).mean() + 0.3 * soft, rel=1e-4)


def test_a_max_update_pushes_no_example_whose_loss_is_above_the_bound(away, teacher):
    some = both().forget
    lost = losses(away.params, some)
    border = np.sort(lost)[1:3].mean()
    bound = float(border / np.log(toy.CLASSES))
    apart = divergence(logits(teacher["params"], some), logits(away.params, some), 2.0)
    _, value = update("scrub", away, both(phase=MAX), bound=bound, temperature=2.0)
    assert float(value) == pytest.approx(-(apart * (lost < border)).mean(), rel=1e-4)
    still, value = update("scrub", away, both(phase=MAX), bound=0.0, weight_decay=0.0)
    toy.same(still.params, away.params)
    assert float(value) == 0.0


def test_a_max_update_moves_away_from_the_teacher_and_ignores_retained_data(away, teacher):
    after, _ = update("scrub", away, both(phase=MAX), lr=1e-3, bound=np.inf, weight_decay=0.0)
    other, _ = update(
        "scrub", away, both(phase=MAX, retain=batch(toy.UNUSED[:8], 1.0)), lr=1e-3, bound=np.inf, weight_decay=0.0
    )
    toy.same(other, after)
    some = both().forget
    gaps = [divergence(logits(teacher["params"], some), logits(s.params, some), 2.0).mean() for s in (away, after)]
    assert gaps[1] > gaps[0]
    moved, _ = update(
        "scrub", away, both(phase=MAX, forget=batch(toy.REQUESTED[5:])), lr=1e-3, bound=np.inf, weight_decay=0.0
    )
    assert difference(moved.params, after.params) > 0


def test_a_min_update_returns_to_the_teacher_and_ignores_the_request(away, teacher):
    rule = dict(lr=1e-3, weight_decay=0.0, gamma=0.0, alpha=1.0)
    after, _ = update("scrub", away, both(phase=MIN), **rule)
    other, _ = update("scrub", away, both(phase=MIN, forget=batch(toy.UNUSED[:5], 1.0)), **rule)
    toy.same(other, after)
    some = both().retain
    gaps = [divergence(logits(teacher["params"], some), logits(s.params, some), 2.0).mean() for s in (away, after)]
    assert gaps[1] < gaps[0]


def test_a_min_update_with_nothing_to_minimise_changes_nothing(away):
    after, loss = update("scrub", away, both(phase=MIN), alpha=0.0, gamma=0.0, weight_decay=0.0)
    toy.same(after.params, away.params)
    assert float(loss) == 0.0
    decayed, _ = update("scrub", away, both(phase=MIN), alpha=0.0, gamma=0.0, weight_decay=0.1)
    assert difference(decayed.params, away.params) > 0


def request_losses(settings, original):
    """(8,) mean loss on the request of the members that SCRUB returns without weight decay, and (8,) before."""
    fold, plan, hp = toy.method("scrub", (*UNDECAYED.items(), *settings))
    found = toy.train(fold=fold, plan=plan, hp=hp, start=original, options=Options(chunk=8)).variables
    mean = lambda own, i: losses(jax.tree.map(jnp.asarray, toy.member(own["params"], i)), batch(toy.REQUESTED)).mean()
    return np.array([[mean(own, i) for i in range(8)] for own in (found, original)])


@pytest.mark.slow
def test_without_decay_the_requests_loss_rises_by_max_passes_alone(original):
    after, before = request_losses([("max_epochs", 3)], original)
    still, _ = request_losses([("max_epochs", 0)], original)
    assert (after > before + 1.0).all()
    assert (still < before + 0.5).all()  # the min passes alone, which no longer show the request


@pytest.mark.slow
def test_a_single_max_update_an_epoch_from_the_original_does_little(original):
    several, before = request_losses([("max_epochs", 3)], original)
    single, _ = request_losses([("max_epochs", 3), ("forget_batch", 32)], original)
    assert (single - before).mean() < 0.5 * (several - before).mean()


def test_the_defaults_make_several_max_updates_an_epoch_with_little_decay():
    for name in ("scrub", "scrub_r"):
        static, numeric = METHODS[name].static, METHODS[name].numeric
        assert (
            (METHODS[name].plan(Sizes(30, 1200), static, Recipe()).phase == MAX).sum() >= 3 * static["max_epochs"] > 0
        )
        assert numeric["weight_decay"] <= 5e-4
    assert set(scrub.PUBLISHED_SMALL) | {"momentum"} == set(static) | set(numeric) == set(scrub.PUBLISHED_LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_scrub_follows_the_optimizer_that_is_asked_for(optimizer, away):
    static = (("optimizer", optimizer), ("momentum", 0.0))
    state = begin("scrub", {"params": away.params, "state": {}}, static=static)._replace(extra=away.extra)
    steps = [
        difference(update("scrub", state, both(phase=MIN), static=static, lr=lr, **NONE)[0].params, away.params)
        for lr in (1e-3, 2e-3)
    ]
    assert steps[1] == pytest.approx(2 * steps[0], rel=1e-2)
    assert (steps[0] == pytest.approx(1e-3, rel=1e-2)) == (optimizer == "adam")  # whatever the gradient's size


def test_scrub_trains_the_student_and_keeps_the_teacher(teacher):
    state = begin("scrub", teacher)
    for step, phase in enumerate((MAX, MIN, MAX, MIN)):
        state, loss = update("scrub", state, both(phase=phase), key=step, lr=1e-2)
        toy.same(state.extra["teacher"], teacher)
        assert step or abs(float(loss)) < 1e-6  # nothing to move away from yet
    assert difference(state.params, teacher["params"]) > 1e-2
    toy.same(finish("scrub", state)["params"], state.params)


# --- SCRUB+R -------------------------------------------------------------------------------------------------------

REWIND = METHODS["scrub_r"].static | {"forget_batch": 4, "pieces": 0, "batch": 16, "epochs": 4, "max_epochs": 2}


def test_scrub_r_keeps_a_copy_after_each_epoch_and_costs_what_scrub_costs():
    own, base = scrub_r.plan(toy.SIZES, REWIND, Recipe()), scrub.plan(toy.SIZES, REWIND, Recipe())
    copies = own.phase == scrub_r.KEEP
    for column in ("phase", "forget_step", "retain_step", "rate", "forget_cost", "retain_cost"):
        np.testing.assert_array_equal(getattr(own, column)[~copies], getattr(base, column))
        assert getattr(own, column).dtype == getattr(base, column).dtype
    np.testing.assert_array_equal(np.flatnonzero(copies), [6, 13, 17, 21])  # epochs of 3 + 3, 3 + 3, 3 and 3 updates
    assert own.grad_evals_forget == pytest.approx(base.grad_evals_forget)
    assert own.grad_evals_retain == pytest.approx(base.grad_evals_retain)
    assert own.forget_pass == base.forget_pass


def constant(label):
    """Parameters that give every input one label."""
    zero = jax.tree.map(jnp.zeros_like, jax.jit(toy.perceptron().init)(jax.random.key(0), toy.stored().inputs[:1]))
    return zero["params"] | {"head": zero["params"]["head"] | {"bias": 5.0 * jax.nn.one_hot(label, toy.CLASSES)}}


def labelled(counts, dead=0):
    """Examples with so many of each label, and some without weight."""
    targets = np.repeat([0, 1, 2], counts)
    weight = np.concatenate([np.ones(len(targets)), np.zeros(dead)])
    targets = np.concatenate([targets, np.zeros(dead)])
    inputs = jnp.zeros((len(targets), *toy.SHAPE))
    return {"inputs": inputs, "targets": jnp.asarray(targets, jnp.int32), "weight": jnp.asarray(weight, jnp.float32)}


THREE = (("epochs", 3), ("max_epochs", 1))


def rewinding(variables, unseen=(5, 3, 2)):
    """SCRUB+R's start for three epochs, with ten requested examples, ten unseen ones, and slots without weight."""
    return begin(
        "scrub_r", variables | {"request": labelled([5, 3, 2], 9), "unseen": labelled(unseen, 5)}, static=THREE
    )


@pytest.mark.parametrize("unseen, chosen", toy.some([([5, 2, 3], 1), ([2, 7, 1], 2), ([2, 2, 6], 0)], 1))
def test_scrub_r_returns_the_epoch_whose_error_is_nearest_the_last_models_on_unseen_examples(unseen, chosen, teacher):
    state = rewinding(teacher, unseen)
    for label in range(3):  # errors on the request .5, .7 and .8; the last model's on the unseen 1 - unseen[2] / 10
        state = state | {"trained": state["trained"]._replace(params=constant(label))}
        state, _ = update("scrub_r", state, both(phase=scrub_r.KEEP), static=THREE)
    assert int(state["epoch"]) == 3
    toy.same(finish("scrub_r", state, static=THREE), {"params": constant(chosen), "state": {}})


def test_scrub_r_does_not_return_to_an_epoch_before_the_last_max_pass(teacher):
    static = (("epochs", 3), ("max_epochs", 3))
    given = {"request": labelled([5, 3, 2], 9), "unseen": labelled((2, 2, 6), 5)}
    state = begin("scrub_r", teacher | given, static=static)
    for label in range(3):  # the first epoch's error is the nearest
        state = state | {"trained": state["trained"]._replace(params=constant(label))}
        state, _ = update("scrub_r", state, both(phase=scrub_r.KEEP), static=static)
    toy.same(finish("scrub_r", state, static=static), {"params": constant(2), "state": {}})


def test_scrub_r_measures_hard_targets_on_hard_held_out_examples():
    rng = np.random.default_rng(0)
    targets = np.arange(120) % 2
    side = np.where(targets == 1, 1.0, -1.0) * np.where(np.arange(120) % 6 < 2, 0.05, 2.0)  # a third near the border
    inputs = np.stack([side, 0.01 * rng.normal(size=120)], axis=1)
    problem = types.SimpleNamespace(example=jax.ShapeDtypeStruct((1, 2), jnp.float32))
    stored = types.SimpleNamespace(inputs=inputs, targets=targets)
    context = types.SimpleNamespace(seed=0, stored=stored, problem=problem)
    for hard in (True, False):
        rows = np.flatnonzero((np.abs(side) < 1) == hard)[:6]
        found = scrub_r.alike(context, rows, np.arange(60, 120))
        assert len(set(found)) == 6 and ((np.abs(side[found]) < 1) == hard).all()
        np.testing.assert_array_equal(np.sort(targets[found]), np.sort(targets[rows]))


@pytest.mark.parametrize("phase", [scrub.MAX, scrub.MIN])
def test_scrub_r_moves_as_scrub_does(phase, teacher, student):
    state = rewinding(teacher)
    state = state | {"trained": state["trained"]._replace(params=student)}
    after, _ = update("scrub_r", state, both(phase=phase), static=THREE)
    rate = METHODS["scrub_r"].numeric["lr"]
    base, _ = update("scrub", begin("scrub", teacher)._replace(params=student), both(phase=phase), lr=rate)
    toy.close(after["trained"].params, base.params, 1e-6)
    toy.same(after["kept"], state["kept"])
    kept, _ = update("scrub_r", after, both(phase=scrub_r.KEEP), static=THREE)
    toy.same(kept["trained"], after["trained"])
    toy.same(jax.tree.map(lambda x: x[0], kept["kept"]["params"]), after["trained"].params)


def test_scrub_r_looks_at_as_many_held_out_examples_of_each_class_as_were_requested():
    targets = np.repeat([0, 1, 2], 20)
    stored = types.SimpleNamespace(inputs=np.arange(60.0)[:, None], targets=targets)
    heldout = [np.r_[5:20, 25:40, 59], np.r_[5:20, 25:40]]
    requested = [np.array([0, 1, 20, 40, 41]), np.array([2])]
    problem = types.SimpleNamespace(example=jax.ShapeDtypeStruct((1, 1), jnp.float32))
    context = types.SimpleNamespace(seed=0, stored=stored, requested=requested, heldout=heldout, problem=problem)
    found, cost = scrub_r.begin(context, {}, {"params": 1})
    assert cost == (0.0, 0.0) and found["params"] == 1
    for i, counts in enumerate(([2, 1, 1], [1, 0, 0])):  # the third class has one held-out example only
        live = found["unseen"]["weight"][i] == 1
        rows = found["unseen"]["inputs"][i, live, 0].astype(int)
        np.testing.assert_array_equal(np.bincount(found["unseen"]["targets"][i][live], minlength=3), counts)
        assert set(rows) <= set(heldout[i]) and len(set(rows)) == len(rows)
        asked = found["request"]["weight"][i] == 1
        np.testing.assert_array_equal(found["request"]["inputs"][i, asked, 0], requested[i])
    context.requested[1] = np.array([40])
    with pytest.raises(InputError, match="held-out examples of the request's classes and there are none"):
        scrub_r.begin(context, {}, {"params": 1})
