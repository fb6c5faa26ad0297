"""Methods that learn in a way of their own: amnesiac unlearning, SISA and Langevin dynamics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import pytest
import toy
from protocol import EMPTY, recorded
from scipy.special import logsumexp, softmax
from scipy.stats import kstest
from steps import batch, begin, flat, followed, losses, moved, outputs, padded, slope, update, whole

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, amnesiac, langevin, sisa
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.members import member_keys

# --- amnesiac ------------------------------------------------------------------------------------------------------

LOCAL = Recipe(steps=20, batch=8, lr=0.01)  # small batches, so that few hold the request


def walked(own, role, member, rows):
    """Plain training of one member: yields (rows of the batch, parameters before, parameters after)."""
    fold, plan, hp = own.training
    init, step, _ = toy._alone(fold)
    key, hp = member_keys(own.seed, role, member + 1)[member], {k: jnp.float32(v) for k, v in hp.items()}
    state, count = init(hp, jax.random.fold_in(key, 0), {}), jnp.int32(len(rows))
    for t in range(plan.steps):
        stream = jax.random.fold_in(jax.random.fold_in(key, 2), 0)
        taken = rows[np.asarray(toy._draw(stream, jnp.int32(t), plan.retain_batch, count, jnp.int32(0))[0])]
        given = padded(retain=batch(taken), forget=batch(EMPTY), rate=plan.rate[t])
        before = state.params
        state, _ = step(hp, jax.random.fold_in(jax.random.fold_in(key, 3), t), state, given)
        yield taken, before, state.params


def test_amnesiac_subtracts_the_updates_of_batches_that_held_the_request():
    asked = [toy.REQUESTED[[2, 7]], EMPTY]
    kept = [np.setdiff1d(np.arange(50), rows) for rows in asked]
    own, calls = recorded(protocol.context(2, kept=kept, requested=asked, recipe=LOCAL))
    original, spent = amnesiac.begin(own, METHODS["amnesiac"].static, {})
    assert spent == (0.0, 0.0) and len(calls) == 1 and calls[0]["plan"] is own.training[1]
    assert all(np.array_equal(rows, np.arange(50)) for rows in calls[0]["rows"])
    for member, rows in enumerate(asked):
        steps = list(walked(own, calls[0]["role"], member, np.arange(50)))
        last = moved(steps[-1][2], jax.tree.map(jnp.zeros_like, steps[-1][2]))
        held = [moved(after, before) for taken, before, after in steps if np.isin(taken, rows).any()]
        assert (0 < len(held) < 15) == (len(rows) > 0)
        expected = functools.reduce(moved, held, last)
        toy.close(jax.tree.map(np.float32, expected), toy.member(original["params"], member), 2e-5)
        assert (np.abs(flat(moved(expected, last))).max() > 1e-3) == (len(rows) > 0)


def test_amnesiac_counts_no_dead_slot_and_keeps_what_no_request_touched():
    method = amnesiac.logged_training(toy.problem(), {"lr": 0.01, "weight_decay": 0.0})
    trained = toy._alone(toy.method()[0])[0](
        {k: jnp.float32(0.0) for k in ("lr", "weight_decay")}, jax.random.key(0), {}
    )
    request = jnp.asarray(np.arange(toy.ROWS) == 8, jnp.float32)
    state = {"trained": trained, "log": jax.tree.map(jnp.zeros_like, trained.params), "request": request}
    step = jax.jit(method.update)
    dead, _ = step(jax.random.key(1), state, padded(retain=batch(np.arange(9), weight=np.arange(9) < 8)))
    live, _ = step(jax.random.key(1), state, padded(retain=batch(np.arange(9))))
    assert np.abs(flat(dead["log"])).max() == 0.0 < np.abs(flat(live["log"])).max()
    toy.same(method.finish(dead)["params"], dead["trained"].params)
    toy.close(method.finish(live)["params"], trained.params, 1e-6)


# --- SISA ----------------------------------------------------------------------------------------------------------

SHARDED = {"shards": 4, "slices": 2}
LONGER = Recipe(steps=60, batch=16, lr=0.01)


@pytest.mark.parametrize("n, shards, slices", [(7, 3, 2), (48, 4, 3), (1200, 5, 1), (11, 1, 4)])
def test_shards_and_slices_part_the_rows_evenly(n, shards, slices):
    found = sisa.assign(np.arange(n) + 100, shards, slices, np.random.default_rng(0))
    assert found.shape == (n, 2) and (found >= 0).all()
    sizes = np.bincount(found[:, 0], minlength=shards)
    assert len(sizes) == shards and np.ptp(sizes) <= 1
    for shard in range(shards):
        parts = np.bincount(found[found[:, 0] == shard, 1], minlength=slices)
        assert len(parts) == slices and np.ptp(parts) <= 1
    other = sisa.assign(np.arange(n) + 100, shards, slices, np.random.default_rng(1))
    assert n * shards * slices < 20 or (found != other).any()


def layout(kept, asked, static=SHARDED, members=2, recipe=LONGER):
    """(calls, gradient evaluations) of SISA where nothing is trained."""
    own = protocol.context(members, kept=kept, requested=asked, recipe=recipe)
    own, calls = recorded(own, lambda role, fold, plan, rows, **_: {"params": np.zeros((len(rows), 1), np.float32)})
    return calls, sisa.begin(own, static, {})[1]


def shards_of(rows, members=2):
    """[member][shard] -> set of rows."""
    own = [set(r.tolist()) for r in rows]
    return [own[i * len(own) // members : (i + 1) * len(own) // members] for i in range(members)]


@pytest.fixture(scope="module")
def most_of_a_shard():
    """(kept, requested) by member: the first asks for nearly all of its first shard, the other for nothing."""
    stages = layout([np.arange(50)] * 2, [EMPTY] * 2)[0]
    early, late = (shards_of(call["rows"])[0][0] for call in stages)
    asked = np.asarray(sorted(early)[1:] + sorted(late - early)[1:])
    return [np.setdiff1d(np.arange(50), asked), np.arange(50)], [np.sort(asked), EMPTY]


def test_sisa_trains_each_stage_on_what_stays_of_the_slices_so_far(most_of_a_shard):
    kept, asked = most_of_a_shard
    (early, late), (first, last) = layout([np.arange(50)] * 2, [EMPTY] * 2)[0], layout(kept, asked)[0]
    for before, after in ((early, first), (late, last)):
        for i, (was, now) in enumerate(zip(shards_of(before["rows"]), shards_of(after["rows"]))):
            assert [s - set(asked[i].tolist()) for s in was] == now
    for i, (one, two) in enumerate(zip(shards_of(first["rows"]), shards_of(last["rows"]))):
        assert sum(map(len, two)) == len(kept[i]) and set().union(*two) == set(kept[i].tolist())
        assert all(a < b for a, b in zip(one, two))
    own = shards_of(early["rows"])
    assert own[0] != own[1]  # members assign anew
    assert first["start"] in (None, {}) and last["start"] is not None  # the second stage goes on from the first


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_sisas_constituents_follow_the_recipes_rates_over_their_own_updates(schedule):
    recipe = LONGER._replace(schedule=schedule, steps=400)
    calls, _ = layout([np.arange(50)] * 2, [EMPTY] * 2, recipe=recipe)
    assert len(calls) == SHARDED["slices"]
    for plan in (call["plan"] for call in calls):
        assert plan.rate.shape == (plan.steps,) and plan.rate.max() == pytest.approx(1.0)
        if schedule == "constant":
            assert (plan.rate == 1.0).all()
        else:  # a tenth of the stage to warm up, then down to nearly nothing
            top = int(plan.rate.argmax())
            assert top == pytest.approx(plan.steps / 10, abs=2) and plan.rate[-1] < 0.01
            assert (np.diff(plan.rate[: top + 1]) > 0).all() and (np.diff(plan.rate[top + 1 :]) < 0).all()


def test_sisa_costs_about_one_training_in_all():
    for static in (SHARDED, {"shards": 5, "slices": 1}, {"shards": 2, "slices": 4}):
        calls, (on_request, on_retained) = layout([np.arange(50)] * 2, [EMPTY] * 2, static)
        spent = sum(c["plan"].grad_evals_retain for c in calls) * static["shards"]
        assert spent == pytest.approx(60 * 16, rel=0.1) and on_request == on_retained == 0.0


@pytest.mark.parametrize("asked", [[40], [40, 41, 42], list(range(40, 50))])
def test_sisa_counts_the_stages_that_the_request_makes_it_train_again(asked):
    stages = layout([np.arange(50)] * 2, [EMPTY] * 2)[0]
    expected = 0.0
    for call in stages:
        again = sum(bool(own & set(asked)) for shards in shards_of(call["rows"]) for own in shards)
        expected += again * call["plan"].steps * 16 / 2  # a member
    kept = np.setdiff1d(np.arange(50), asked)
    found = layout(kept, np.asarray(asked))[1]
    assert found == (0.0, expected) and expected > 0


@pytest.mark.slow
def test_sisa_keeps_constituents_of_unaffected_shards_to_the_bit(most_of_a_shard):
    kept, asked = most_of_a_shard
    without, _ = sisa.begin(protocol.context(2, kept=np.arange(50), requested=EMPTY, recipe=LONGER), SHARDED, {})
    after, _ = sisa.begin(protocol.context(2, kept=kept, requested=asked, recipe=LONGER), SHARDED, {})
    assert jax.tree.leaves(after)[0].shape[:2] == (2, 4)
    for member, shard in np.ndindex(2, 4):
        a, b = (toy.member(x, (member, shard)) for x in (without, after))
        if (member, shard) == (0, 0):
            assert np.abs(flat(moved(a["params"], b["params"]))).max() > 1e-3
        else:
            toy.same(a, b)
    apart = [flat(toy.member(after["params"], (0, shard))) for shard in (1, 2, 3)]
    assert np.abs(apart[0] - apart[1]).max() > 0.1 and np.abs(apart[1] - apart[2]).max() > 0.1


def test_sisa_predicts_the_mean_probability(original):
    shards = toy.member(original, slice(4))
    some = batch(toy.UNUSED)
    vote = jax.jit(lambda v, x: sisa.voting(toy.problem(), {}).apply(v, x)[0])(shards, some.inputs)
    each = [outputs(jax.tree.map(jnp.asarray, toy.member(shards["params"], i)), some) for i in range(4)]
    mean = np.mean([softmax(logits, axis=1) for logits, _ in each], axis=0)
    np.testing.assert_allclose(np.asarray(vote.logits), np.log(mean), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.asarray(vote.features), np.mean([f for _, f in each], axis=0), rtol=1e-4, atol=1e-5)
    assert np.abs(np.log(mean) - logsumexp([x for x, _ in each], axis=0)).max() > 0.1  # no mean of logits
    assert METHODS["sisa"].model is sisa.voting


def test_sisa_says_when_a_shard_is_empty():
    with pytest.raises(InputError, match="give fewer shards"):
        layout([np.arange(4, 7)] * 2, [EMPTY] * 2, {"shards": 4, "slices": 2})


# --- Langevin ------------------------------------------------------------------------------------------------------


def noisy(params, key=0, given=None, **rule):
    """Parameters after one update of noisy descent."""
    rule = {"lr": 0.02, "noise": 0.0, "l2": 0.0, "radius": 1e6} | rule
    return update("langevin", begin("langevin", whole(params), **rule), given or padded(), key=key, **rule)


def test_langevin_without_noise_is_penalised_descent(learned):
    after, loss = noisy(learned, l2=0.3)
    assert float(loss) == pytest.approx(
        losses(learned, padded().retain).mean() + 0.15 * np.square(flat(learned)).sum(), rel=1e-4
    )
    way = jax.tree.map(lambda g, w: g + 0.3 * np.asarray(w), slope(learned, padded().retain), learned)
    followed(learned, after.params, way, 0.02, 5e-5)


@pytest.mark.parametrize("lr, noise", [(0.02, 1.0), (0.5, 0.1)])
def test_langevin_noise_is_scaled_by_the_root_of_twice_the_rate(learned, lr, noise):
    still = noisy(learned, lr=lr)[0].params
    drawn = [flat(moved(noisy(learned, key, lr=lr, noise=noise)[0].params, still)) for key in (0, 1)]
    for x in drawn:
        assert kstest(x / (np.sqrt(2 * lr) * noise), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.25


def test_langevin_projects_onto_the_ball(learned):
    free = flat(noisy(learned, noise=0.1)[0].params)
    size = np.linalg.norm(free)
    inside = flat(noisy(learned, noise=0.1, radius=1.01 * size)[0].params)
    np.testing.assert_allclose(inside, free, rtol=1e-6)
    outside = flat(noisy(learned, noise=0.1, radius=0.5 * size)[0].params)
    np.testing.assert_allclose(outside, 0.5 * free, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_langevin_learns_on_everything_and_goes_on_without_the_request(learned):
    own, calls = recorded(protocol.context(2))
    static = METHODS["langevin"].static
    trained, spent = langevin.begin(own, static, {"params": None})
    (call,) = calls
    assert spent == (0.0, 0.0) and all(np.array_equal(rows, np.arange(50)) for rows in call["rows"])
    assert (call["plan"].steps, call["plan"].retain_batch, call["plan"].forget_batch) == (20, 16, 0)
    assert call["start"] in (None, {}) and jax.tree.leaves(trained)[0].shape[0] == 2
    assert np.abs(flat(moved(*(toy.member(trained["params"], i) for i in (0, 1))))).max() > 0.1  # fresh starts
    go_on = METHODS["langevin"].plan(toy.SIZES, static, Recipe())
    assert go_on.forget_batch == 0 and go_on.grad_evals_forget == 0
    other = padded(forget=batch(toy.REQUESTED[:6], np.nan))
    toy.same(noisy(learned, noise=0.1, given=other)[0].params, noisy(learned, noise=0.1)[0].params)
