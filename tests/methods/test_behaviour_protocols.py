"""What makes the challenge's entries, the protocols, the geometric methods and the upper bounds what they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import pytest
import toy
from flax import linen as nn
from protocol import batch, begin, both, cross_entropy, finish, flat, moved, outputs, recorded, slope, update
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import kstest

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, amnesiac, ct, duck, fcs, kde, langevin, msg, prmq, rfe, rni, sfron, sisa
from unlearn_jax.methods.common import Recipe
from unlearn_jax.methods.datamodel_matching import removal_effect
from unlearn_jax.models import build_model, from_linen
from unlearn_jax.models.layers import head
from unlearn_jax.population.members import member_keys
from unlearn_jax.study import REFERENCES

PLAIN = (("momentum", 0.0), ("optimizer", "sgd"))  # a step is the rate times the gradient
STILL = {"weight_decay": 0.0}
EMPTY = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def teacher(original):
    """Parameters of one member that has memorised the request."""
    return jax.tree.map(jnp.asarray, toy.member(original, 0))["params"]


@pytest.fixture(scope="module")
def student(teacher):
    """The same some way off."""
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + jnp.asarray(0.1 * noise.normal(size=x.shape), x.dtype), teacher)


def whole(params):
    """Variables of a model without running statistics."""
    return {"params": params, "state": {}}


class _Convolutions(nn.Module):
    """Two convolutions and a linear head: compiles in a third of the time of the library's smallest."""

    @nn.compact
    def __call__(self, x, train):
        for i in range(2):
            x = nn.relu(nn.Conv(4, (3, 3), name=f"block{i}")(x))
        features = x.mean(axis=(1, 2))
        return head(toy.CLASSES)(features), features


@functools.cache
def convnet():
    """A model with convolutions, and its parameters."""
    model = from_linen(_Convolutions())
    return model, jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]


def tensors(params):
    """{path: array} of a tree."""
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}


def step_is(before, after, way, rate, tolerance=1e-6):
    """Assert that ``after = before - rate way``."""
    np.testing.assert_allclose(flat(moved(after, before)), -rate * flat(way), rtol=1e-3, atol=tolerance)


# --- FCS -----------------------------------------------------------------------------------------------------------


def test_fcs_flattens_towards_the_uniform_prediction(teacher):
    state, given = begin("fcs", whole(teacher)), both(fcs.FLATTEN)
    after, loss = update("fcs", state, given)
    logits = outputs(teacher, given.forget)[0]
    expected = (-np.log(toy.CLASSES) - log_softmax(logits, axis=1)).mean(axis=1)  # KL(u || p), a row
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-4)
    now = (-np.log(toy.CLASSES) - log_softmax(outputs(after.params, given.forget)[0], axis=1)).mean()
    assert now < expected.mean()
    toy.same(update("fcs", state, given._replace(retain=batch(toy.UNUSED[:9], 1.0)))[0].params, after.params)


def test_fcs_contrasts_the_request_with_fixed_retained_logits(teacher):
    state, given = begin("fcs", whole(teacher)), both(fcs.REPEL)
    after, loss = update("fcs", state, given, repel_lr=0.01)
    kept = outputs(teacher, given.retain)[0]
    value = lambda params: -log_softmax(outputs(params, given.forget)[0] @ kept.T / 1.15, axis=1).mean()
    assert float(loss) == pytest.approx(value(teacher), rel=1e-4)
    fixed, live = jnp.asarray(kept, jnp.float32), np.flatnonzero(np.asarray(given.forget.weight))

    def objective(params):
        logits = toy.perceptron().apply(whole(params), given.forget.inputs[live])[0].logits
        return -jax.nn.log_softmax(logits @ fixed.T / 1.15, axis=1).mean()

    step_is(teacher, after.params, jax.jit(jax.grad(objective))(teacher), 0.01)


def test_fcs_passes_come_in_the_published_order():
    plan = fcs.plan(toy.SIZES, {"rounds": 3, "batch": 4}, Recipe())  # 3 batches of requested, 10 of retained examples
    np.testing.assert_array_equal(plan.phase, [fcs.FLATTEN] * 3 + ([fcs.REPEL] * 3 + [fcs.FIT] * 10) * 3)
    contrast = plan.rate[plan.phase == fcs.REPEL]
    np.testing.assert_allclose(contrast[[0, -1]], [1.0, 1 / 300 + 299 / 600 * (1 + np.cos(np.pi * 8 / 9))], rtol=1e-5)
    assert (np.diff(contrast) < 0).all() and (plan.rate[plan.phase != fcs.REPEL] == 1.0).all()
    np.testing.assert_array_equal(plan.forget_step[plan.phase != fcs.FIT], np.arange(12))  # exact passes
    assert plan.forget_pass == 3 and (plan.forget_cost[plan.phase == fcs.FIT] == 0).all()


def test_fcs_optimizers_share_no_state(teacher):
    start = begin("fcs", whole(teacher))
    assert len(start.optimizer) == 3
    for phase in (fcs.FLATTEN, fcs.REPEL, fcs.FIT):
        after, _ = update("fcs", start, both(phase))
        for i, (old, new) in enumerate(zip(start.optimizer, after.optimizer)):
            assert (np.abs(flat(moved(new, old))).max() > 0) == (i == phase)
    first, _ = update("fcs", start, both(fcs.FLATTEN))
    fit = lambda state: update("fcs", state._replace(params=start.params), both(fcs.FIT))[0].params
    toy.same(fit(first), fit(start))  # the momentum of flattening is no part of the fit


# --- MSG -----------------------------------------------------------------------------------------------------------

MSG = (("momentum", 0.0),)


_least = jax.jit(msg.smallest_share)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_the_smallest_share_is_exact_even_among_equals(share):
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    found = np.asarray(_least(jnp.asarray(values), jnp.float32(share)))
    chosen = np.sort(np.abs(values).ravel())[: round(share * 30)]
    np.testing.assert_array_equal(np.sort(np.abs(values[found == 1])), chosen)
    assert set(np.unique(found)) <= {0.0, 1.0}
    for equal in (np.zeros((6, 5)), np.where(np.arange(30) < 20, 0.0, 1.0).reshape(6, 5)):  # inputs that are always 0
        assert float(_least(jnp.asarray(equal, jnp.float32), jnp.float32(share)).sum()) == round(share * 30)


@pytest.fixture(scope="module")
def scored():
    """MSG's state on the network of convolutions after both passes, and the same scores by whole-batch gradients."""
    model, params = convnet()
    state = begin("msg", whole(params), static=MSG, model=model)
    for forget, retain in ((toy.REQUESTED[:6], toy.KEPT[:9]), (toy.REQUESTED[6:], toy.KEPT[9:20])):
        live = batch(np.pad(forget, (0, 6 - len(forget))), weight=np.arange(6) < len(forget))
        state, _ = update("msg", state, both(msg.FORGET, forget=live), static=MSG, model=model)
        state, _ = update("msg", state, both(msg.RETAIN, retain=batch(retain)), static=MSG, model=model)
    scores = moved(slope(params, batch(toy.KEPT[:20]), model), slope(params, batch(toy.REQUESTED), model))
    return state, tensors(params), tensors(scores)


def test_msg_draws_the_weights_anew_on_which_gradients_agree_most(scored):
    state, params, scores = scored
    reset = [update("msg", state, both(msg.RESET), static=MSG, model=convnet()[0], key=k)[0] for k in (2, 3)]
    after, other = (tensors(x.params) for x in reset)
    for name, before in params.items():
        if before.ndim < 4:
            np.testing.assert_array_equal(after[name], before)
            continue
        least = np.argsort(np.abs(scores[name]).ravel())[: round(0.3 * before.size)]
        chosen = np.isin(np.arange(before.size), least).reshape(before.shape)
        np.testing.assert_array_equal(after[name] != before, chosen)
        assert (after[name][chosen] != other[name][chosen]).all()  # drawn by key
        fan_in = np.prod(before.shape[:3])
        assert 0.3 < np.std(after[name][chosen]) * np.sqrt(fan_in) < 3.0  # as an initialisation draws


def test_msg_slows_the_kept_convolution_weights_alone(scored):
    model = convnet()[0]
    state, _ = update("msg", scored[0], both(msg.RESET), static=MSG, model=model)
    after, loss = update("msg", state, both(msg.FIT), static=MSG, model=model, lr=0.5, slow=0.1, **STILL)
    assert float(loss) == pytest.approx(cross_entropy(state.params, both().retain, model).mean(), rel=1e-4)
    step, way, new = (tensors(x) for x in (
        moved(after.params, state.params), slope(state.params, both().retain, model), state.extra["new"],
    ))  # fmt: skip
    for name, g in way.items():
        pace = np.where(new[name] == 1, 1.0, 0.1) if g.ndim == 4 else 1.0
        np.testing.assert_allclose(step[name], -0.5 * pace * g, rtol=2e-3, atol=1e-6)
        assert new[name].sum() == (round(0.3 * g.size) if g.ndim == 4 else 0)


def test_msg_warms_up_for_one_epoch_and_falls_to_nothing():
    plan = msg.plan(toy.SIZES, {"epochs": 3, "batch": 8}, Recipe())
    np.testing.assert_array_equal(plan.phase, [msg.FORGET] * 2 + [msg.RETAIN] * 5 + [msg.RESET] + [msg.FIT] * 15)
    np.testing.assert_allclose(plan.rate[8:], [*np.arange(1, 6) / 5, *np.arange(10, 0, -1) / 10], rtol=1e-6)
    assert plan.forget_pass == 2 and plan.retain_pass == 5


# --- CFW, CT, RNI: noise and transposition before a fine-tune ------------------------------------------------------


def test_cfw_shakes_convolutions_by_their_own_spread():
    model, params = convnet()
    start = lambda key, **hp: begin("cfw", whole(params), model=model, key=key, **hp).params
    for name, before in tensors(params).items():
        after, other = tensors(start(1))[name], tensors(start(2))[name]
        if before.ndim < 4:
            np.testing.assert_array_equal(after, before)
        else:
            drawn = ((after - before) / (0.6 * before.std())).ravel()
            assert kstest(drawn, "norm").pvalue > 1e-3 and abs(np.corrcoef(drawn, (other - before).ravel())[0, 1]) < 0.6
    toy.same(start(1, noise=0.0), params)


@pytest.mark.parametrize("name, settings", [("cfw", {"noise": 0.0, "class_weight": 0.7}), ("ct", {})])
def test_the_fine_tune_is_plain_descent_on_the_retained_data(name, settings, teacher):
    state = begin(name, whole(teacher), static=PLAIN, **settings)
    after, loss = update(name, state, both(), static=PLAIN, lr=0.1, **STILL, **settings)
    factor = settings.get("class_weight", 1.0)
    assert float(loss) == pytest.approx(factor * cross_entropy(state.params, both().retain).mean(), rel=1e-4)
    step_is(state.params, after.params, slope(state.params, both().retain), 0.1 * factor)


def test_ct_exchanges_the_spatial_axes_of_every_convolution_and_nothing_else():
    model, params = convnet()
    after = begin("ct", whole(params), model=model).params
    kinds = set()
    for name, before in tensors(params).items():
        turned = np.einsum("hwio->whio", before) if before.ndim == 4 else before
        np.testing.assert_array_equal(tensors(after)[name], turned)
        kinds.add((before.ndim == 4, bool((turned != before).any())))
    assert (True, True) in kinds and (False, True) not in kinds
    toy.same(ct.transposed(toy.problem(model), after), params)  # its own inverse


def test_ct_transposes_square_hidden_kernels_of_a_perceptron_and_never_the_head():
    model = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(16, 16, 3))
    params = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]
    after = begin("ct", whole(params), model=model).params
    assert params["head"]["kernel"].shape == (3, 3) and params["dense2"]["kernel"].shape == (16, 3)
    for name in ("dense0", "dense1"):
        np.testing.assert_array_equal(after[name]["kernel"], params[name]["kernel"].T)
        np.testing.assert_array_equal(after[name]["bias"], params[name]["bias"])
    toy.same({n: after[n] for n in ("dense2", "head")}, {n: params[n] for n in ("dense2", "head")})


@pytest.mark.parametrize("count", [1, 3, 50])
def test_rni_shakes_as_many_tensors_as_asked(count):
    model, params = convnet()
    leaves = len(jax.tree.leaves(params))
    state = begin("rni", whole(params), tensors=count, model=model)
    hit = np.zeros(leaves)
    for key in range(12):
        after, _ = update("rni", state, both(rni.SHAKE), model=model, key=key, noise=0.04, tensors=count)
        changed = [bool((x != 0).all()) for x in tensors(moved(after.params, params)).values()]
        assert sum(changed) == min(count, leaves)
        noise = np.concatenate([x.ravel() for x in tensors(moved(after.params, params)).values() if x.any()])
        assert noise.std() == pytest.approx(0.04, rel=5 / np.sqrt(2 * noise.size))
        toy.same(after.optimizer, state.optimizer)
        hit += changed
    assert (hit > 0).sum() > min(count, leaves - 1)  # not always the same ones


def test_rni_shakes_once_before_every_epoch():
    plan = rni.plan(toy.SIZES, {"epochs": 3, "batch": 16}, Recipe())
    np.testing.assert_array_equal(plan.phase, [rni.SHAKE, rni.FIT, rni.FIT, rni.FIT] * 3)
    np.testing.assert_array_equal(plan.retain_step[plan.phase == rni.FIT], np.arange(9))
    assert plan.grad_evals_retain == 9 * 16 and plan.grad_evals_forget == 0


# --- PRMQ, KDE: a damaged student of the original ------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.75, 0.99, 1.0])
def test_prmq_prunes_convolution_weights_by_one_threshold(share):
    model, params = convnet()
    after, before = tensors(begin("prmq", whole(params), model=model, prune=share).params), tensors(params)
    size = np.concatenate([np.abs(x).ravel() for x in before.values() if x.ndim == 4])
    least = np.append(np.sort(size), np.inf)[round(share * size.size)]
    for name, x in before.items():
        np.testing.assert_array_equal(after[name], x if x.ndim < 4 else np.where(np.abs(x) >= least, x, 0.0))
    assert sum((x == 0).sum() for n, x in after.items() if before[n].ndim == 4) == round(share * size.size)


def test_prmq_matches_entropies_while_pruned_weights_grow_again(teacher):
    state = begin("prmq", whole(teacher), static=PLAIN, prune=0.5)
    toy.same(state.extra["params"], teacher)
    after, loss = update("prmq", state, both(), static=PLAIN, match=0.7, lr=0.1, **STILL)
    own, target = (log_softmax(outputs(p, both().retain)[0], axis=1) for p in (state.params, teacher))
    own, target = (-(np.exp(x) * x).sum(axis=1) for x in (own, target))
    expected = cross_entropy(state.params, both().retain).mean() + 0.7 * np.square(own - target).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    pruned = np.asarray(state.params["dense0"]["kernel"]) == 0
    assert pruned.sum() == 128 and (np.asarray(after.params["dense0"]["kernel"])[pruned] != 0).mean() > 0.5


def test_prmq_returns_weights_that_half_precision_holds(teacher):
    state = begin("prmq", whole(teacher), prune=0.0)
    found = finish("prmq", state)
    for x, y in zip(jax.tree.leaves(teacher), jax.tree.leaves(found["params"]), strict=True):
        np.testing.assert_array_equal(np.asarray(y), np.asarray(x).astype(np.float16).astype(np.float32))
    assert np.abs(flat(moved(found["params"], teacher))).max() > 0
    assert float(prmq.entropy(jnp.zeros((1, 5)))[0]) == pytest.approx(np.log(5))


def test_kde_draws_the_first_and_the_last_layers_anew():
    model = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(8, 8, 8))
    params = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]
    state, other = (begin("kde", whole(params), model=model, key=k) for k in (1, 2))
    for name in ("dense0", "head"):
        kernels = [moved(s.params[name], params[name])["kernel"] for s in (state, other)]
        assert (kernels[0] != 0).all() and np.abs(kernels[0] - kernels[1]).max() > 0.01
    middle = lambda tree: {name: tree[name] for name in ("dense1", "dense2")}
    toy.same(middle(state.params), middle(params))
    toy.same(state.extra["params"], params)
    lost = middle(params) | {n: jax.tree.map(lambda x: x * jnp.nan, params[n]) for n in ("dense0", "head")}
    toy.same(begin("kde", whole(lost), model=model).params, state.params)


def test_kde_distils_and_then_mixes_labels_with_predictions(teacher):
    state = begin("kde", whole(teacher))
    own, target = (log_softmax(outputs(p, both().retain)[0], axis=1) for p in (state.params, teacher))
    _, distil = update("kde", state, both(kde.DISTIL))
    assert float(distil) == pytest.approx((np.exp(target) * (target - own)).sum(axis=1).mean(), rel=1e-4)
    _, soften = update("kde", state, both(kde.SOFTEN))
    mixed = 0.5 * np.exp(target) + 0.5 * np.eye(toy.CLASSES)[np.asarray(both().retain.targets)[:8]]
    assert float(soften) == pytest.approx(-(mixed * own).sum(axis=1).mean(), rel=1e-4)
    plan = kde.plan(toy.SIZES, {"epochs": 2, "batch": 16}, Recipe())
    np.testing.assert_array_equal(plan.phase, [kde.DISTIL] * 6 + [kde.SOFTEN] * 6)


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
        given = both(retain=batch(taken), forget=batch(EMPTY), rate=plan.rate[t])
        before = state.params
        state, _ = step(hp, jax.random.fold_in(jax.random.fold_in(key, 3), t), state, given)
        yield taken, before, state.params


def test_amnesiac_subtracts_the_updates_of_batches_that_held_the_request():
    asked = [toy.REQUESTED[:1], EMPTY, toy.REQUESTED[[2, 7]]]
    kept = [np.setdiff1d(np.arange(50), rows) for rows in asked]
    own, calls = recorded(protocol.context(3, kept=kept, requested=asked, recipe=LOCAL))
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
    dead, _ = step(jax.random.key(1), state, both(retain=batch(np.arange(9), weight=np.arange(9) < 8)))
    live, _ = step(jax.random.key(1), state, both(retain=batch(np.arange(9))))
    assert np.abs(flat(dead["log"])).max() == 0.0 < np.abs(flat(live["log"])).max()
    toy.same(method.finish(dead)["params"], dead["trained"].params)
    toy.close(method.finish(live)["params"], trained.params, 1e-6)


# --- SISA ----------------------------------------------------------------------------------------------------------

SHARDED = {"shards": 4, "slices": 2}
LONGER = Recipe(steps=60, batch=16, lr=0.01)


@pytest.mark.parametrize("n, shards, slices", [(50, 4, 2), (7, 3, 2), (48, 4, 3), (1200, 5, 1), (11, 1, 4)])
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


def layout(kept, asked, static=SHARDED, members=2):
    """(calls, gradient evaluations) of SISA where nothing is trained."""
    own = protocol.context(members, kept=kept, requested=asked, recipe=LONGER)
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
    return update("langevin", begin("langevin", whole(params), **rule), given or both(), key=key, **rule)


def test_langevin_without_noise_is_penalised_descent(teacher):
    after, loss = noisy(teacher, l2=0.3)
    assert float(loss) == pytest.approx(
        cross_entropy(teacher, both().retain).mean() + 0.15 * np.square(flat(teacher)).sum(), rel=1e-4
    )
    way = jax.tree.map(lambda g, w: g + 0.3 * np.asarray(w), slope(teacher, both().retain), teacher)
    step_is(teacher, after.params, way, 0.02)


@pytest.mark.parametrize("lr, noise", [(0.02, 1.0), (0.5, 0.1)])
def test_langevin_noise_is_scaled_by_the_root_of_twice_the_rate(teacher, lr, noise):
    still = noisy(teacher, lr=lr)[0].params
    drawn = [flat(moved(noisy(teacher, key, lr=lr, noise=noise)[0].params, still)) for key in (0, 1)]
    for x in drawn:
        assert kstest(x / (np.sqrt(2 * lr) * noise), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.25


def test_langevin_projects_onto_the_ball(teacher):
    free = flat(noisy(teacher, noise=0.1)[0].params)
    size = np.linalg.norm(free)
    inside = flat(noisy(teacher, noise=0.1, radius=1.01 * size)[0].params)
    np.testing.assert_allclose(inside, free, rtol=1e-6)
    outside = flat(noisy(teacher, noise=0.1, radius=0.5 * size)[0].params)
    np.testing.assert_allclose(outside, 0.5 * free, rtol=1e-4, atol=1e-6)


def test_langevin_learns_on_everything_and_goes_on_without_the_request(teacher):
    own, calls = recorded(protocol.context(2))
    static = METHODS["langevin"].static
    trained, spent = langevin.begin(own, static, {"params": None})
    (call,) = calls
    assert spent == (0.0, 0.0) and all(np.array_equal(rows, np.arange(50)) for rows in call["rows"])
    assert (call["plan"].steps, call["plan"].retain_batch, call["plan"].forget_batch) == (20, 16, 0)
    assert call["start"] in (None, {}) and jax.tree.leaves(trained)[0].shape[0] == 2
    assert np.abs(flat(moved(*(toy.member(trained["params"], i) for i in (0, 1))))).max() > 0.1  # fresh starts
    go_on = langevin.plan(toy.SIZES, static, Recipe())
    assert go_on.forget_batch == 0 and go_on.grad_evals_forget == 0
    other = both(forget=batch(toy.REQUESTED[:6], np.nan))
    toy.same(noisy(teacher, noise=0.1, given=other)[0].params, noisy(teacher, noise=0.1)[0].params)


# --- matching the outputs of other models --------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["oracle", "retrain"])
def test_oracle_matching_trains_a_population_of_its_own(target):
    own, calls = recorded(protocol.context(3))
    static = METHODS["oracle_matching"].static | {"target": target}
    start = {"params": {"w": np.zeros((3, 1))}, "state": {}}
    found, spent = METHODS["oracle_matching"].begin(own, static, start)
    (call,) = calls
    kept = toy.KEPT if target == "retrain" else np.setdiff1d(toy.KEPT, protocol.SIMILAR)
    assert len(call["rows"]) == 3 and all(np.array_equal(rows, kept) for rows in call["rows"])
    assert spent == (0.0, 20 * 16) and found["params"] is start["params"]
    assert call["role"] not in {*REFERENCES, "pilot"} and target in call["role"]
    again = own.train(call["role"], *own.training[:2], call["rows"], hp=own.training[2])
    every = batch(np.arange(toy.ROWS))
    for i in range(3):  # member i is given the outputs of model i, by row
        logits = outputs(jax.tree.map(jnp.asarray, toy.member(again["params"], i)), every)[0]
        np.testing.assert_allclose(found["target"][i], logits, rtol=1e-3, atol=1e-4)
    assert np.abs(found["target"][0] - found["target"][1]).max() > 0.01
    assert not np.array_equal(found["target"], own.predict(own.train(target, *own.training[:2], call["rows"],
                                                                     hp=own.training[2])))  # fmt: skip


def test_protocols_and_targets_never_share_draws_with_a_scored_population():
    roles = []
    for name, entry in METHODS.items():
        if entry.begin is None or name == "scrub_r":
            continue
        own, calls = recorded(protocol.context(2), lambda role, fold, plan, rows, **_: {"on": np.ones((len(rows), 1))})
        own = own._replace(predict=lambda v: np.zeros((len(v["on"]), toy.ROWS, toy.CLASSES), np.float32))
        entry.begin(own, entry.static, {"on": np.ones((2, 1))})
        roles += [call["role"] for call in calls]
    assert len(roles) >= 5 and len(set(roles)) == len(roles) and not set(roles) & {*REFERENCES, *METHODS, "pilot"}


def test_oracle_matching_refuses_other_targets():
    with pytest.raises(InputError, match="unknown target 'original': choose one of oracle, retrain"):
        METHODS["oracle_matching"].begin(protocol.context(1), {"target": "original"}, {})


@pytest.mark.parametrize("name", ["oracle_matching", "datamodel_matching"])
def test_matching_descends_the_squared_gap_of_logits_by_row(name, teacher):
    target = np.random.default_rng(0).normal(size=(toy.ROWS, toy.CLASSES)).astype(np.float32)
    state = begin(name, whole(teacher) | {"target": jnp.asarray(target)})
    after, loss = update(name, state, both(), forget_weight=0.4)
    gap = lambda some, n: np.square(outputs(teacher, some)[0] - target[np.asarray(some.index)[:n]]).mean()
    expected = 0.4 * gap(both().forget, 5) + gap(both().retain, 8)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    far = np.where(np.isin(np.arange(toy.ROWS), [*both().forget.index[:5], *both().retain.index[:8]])[:, None], 0, 7)
    other = begin(name, whole(teacher) | {"target": jnp.asarray(target + far.astype(np.float32))})
    toy.same(update(name, other, both(), forget_weight=0.4)[0].params, after.params)
    assert set(finish(name, after)) == {"params", "state"}


def test_removal_effects_of_a_linear_truth_are_exact():
    rng = np.random.default_rng(0)
    masks = rng.permuted(np.arange(16)[:, None] % 2 == np.zeros(5), axis=0).astype(float)
    effects, base = rng.normal(size=(5, 4, 3)), rng.normal(size=(4, 3))
    logits = base + np.einsum("mf,fnk->mnk", masks, effects)
    np.testing.assert_allclose(removal_effect(masks, logits, 0.0), effects.sum(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(removal_effect(masks, logits + 5.0, 0.0), effects.sum(axis=0), rtol=1e-9, atol=1e-9)
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)  # uncorrelated halves
    ridged = removal_effect(square, square @ effects[:2, 0], 0.25)
    np.testing.assert_allclose(ridged, effects[:2, 0].sum(axis=0) / 1.25, rtol=1e-9)


def test_datamodel_matching_predicts_the_model_without_the_request():
    rng, n = np.random.default_rng(0), toy.ROWS
    effects, models = rng.normal(size=(n, n, toy.CLASSES)).astype(np.float32), 24
    asked = [toy.REQUESTED[:5], toy.REQUESTED[5:], toy.REQUESTED[:5]]
    on = lambda rows: np.stack([np.isin(np.arange(n), r) for r in rows]).astype(np.float32)
    own = protocol.context(3, requested=asked, kept=toy.KEPT)
    own, calls = recorded(own, lambda role, fold, plan, rows, **_: {"on": on(rows)})
    own = own._replace(predict=lambda v: np.einsum("mf,fnk->mnk", v["on"], effects))
    static = METHODS["datamodel_matching"].static | {"models": models, "ridge": 1e-7}
    found, spent = METHODS["datamodel_matching"].begin(own, static, {"on": on(own.everything)})
    np.testing.assert_allclose(found["target"], own.predict({"on": on(own.kept)}), rtol=1e-3, atol=1e-2)
    assert len(calls) == 2 and spent == (0.0, pytest.approx(models * 2 / 3 * 20 * 16))  # equal requests share models
    for call, rows in zip(calls, asked[:2]):
        held = on(call["rows"])
        assert (held[:, toy.KEPT] == 1).all() and (held[:, rows].sum(axis=0) == models / 2).all()
        assert held.sum() == models * (40 + 2.5) and len(np.unique(held, axis=0)) > models / 2
    assert (on(calls[0]["rows"])[:, asked[0]] != on(calls[1]["rows"])[:, asked[1]]).any()


# --- DUCK ----------------------------------------------------------------------------------------------------------


def cosine(a, b):
    """(B, K) by NumPy."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit(a) @ unit(b).T


def test_the_nearest_wrong_centroid_is_numpys():
    rng = np.random.default_rng(0)
    features, centroids, labels = rng.normal(size=(40, 6)), rng.normal(size=(5, 6)), rng.integers(0, 5, 40)
    found = jax.jit(duck.nearest_wrong)(
        *(jnp.asarray(x, jnp.float32) for x in (features, centroids)), jnp.asarray(labels)
    )
    alike = cosine(features, centroids)
    expected = [max((c for c in range(5) if c != y), key=lambda c, i=i: alike[i, c]) for i, y in enumerate(labels)]
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) == 5 and (np.argmax(alike, axis=1) == labels).any()


def test_duck_pulls_features_to_centroids_of_the_original(teacher):
    student = teacher | {"dense0": jax.tree.map(lambda x: jnp.asarray(np.roll(x, 5, axis=-1)), teacher["dense0"])}
    state = begin("duck", whole(teacher))
    for some in (batch(toy.KEPT[:9], weight=np.arange(9) < 8), batch(toy.KEPT[8:17])):
        state, _ = update("duck", state, both(duck.GATHER, retain=some))
    kept, labels = outputs(teacher, batch(toy.KEPT[:17]))[1], np.asarray(toy.stored().targets)[:17]
    centroids = np.stack([kept[labels == c].mean(axis=0) for c in range(toy.CLASSES)])
    forget, retain = both().forget, both().retain
    alike, otherwise = (cosine(outputs(p, forget)[1], centroids) for p in (teacher, student))
    for found in (alike, otherwise):
        found[np.arange(5), np.asarray(forget.targets)[:5]] = -2.0
    assert (alike.argmax(axis=1) != otherwise.argmax(axis=1)).any()
    goal = centroids[alike.argmax(axis=1)]
    away = 1.0 - np.diagonal(cosine(outputs(student, forget)[1], goal))  # the goal stays while the student moves
    settings = {"forget_weight": 1.3, "retain_weight": 0.6, "temperature": 2.0}
    after, loss = update("duck", state._replace(params=student), both(duck.FIT), **settings)
    held = cross_entropy(student, retain, temperature=2.0).mean()
    assert float(loss) == pytest.approx(1.3 * away.mean() + 0.6 * held, rel=1e-4)
    now, _ = update("duck", after, both(duck.FIT), forget_weight=1.0, retain_weight=0.0)
    later = 1.0 - np.diagonal(cosine(outputs(now.params, forget)[1], goal))
    assert later.mean() < away.mean()
    toy.same(after.extra, state.extra)


# --- SFRon ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighed(teacher):
    """SFRon's state after a pass over five requested and eight retained examples, and the salient weights by NumPy."""
    state = begin("sfron", whole(teacher))
    for phase in (sfron.SCORE_F, sfron.SCORE_R):
        state, _ = update("sfron", state, both(phase))
    fisher = lambda rows: np.mean([np.square(flat(slope(teacher, batch([row])))) for row in rows], axis=0)
    return state, fisher(toy.REQUESTED[:5]), fisher(toy.KEPT[:8])


def test_sfron_ascends_on_salient_weights_with_fading_examples(weighed, teacher):
    state, of_forget, of_retain = weighed
    np.testing.assert_allclose(flat(state.extra["forget"]) / 5, of_forget, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(flat(state.extra["retain"]) / 8, of_retain, rtol=1e-3, atol=1e-6)
    threshold, given = 2.0, both(sfron.ASCEND)
    after, _ = update("sfron", state, given, forget_lr=0.3, fade=1.5, threshold=threshold)
    losses = cross_entropy(teacher, given.forget)
    each = np.stack([flat(slope(teacher, batch([row]))) for row in toy.REQUESTED[:5]])
    way = ((1.0 + losses[:, None]) ** -1.5 * each).mean(axis=0)
    found = flat(moved(after.params, teacher))
    ratio = of_forget / np.maximum(of_retain, 1e-30)
    chosen, clear = ratio >= threshold, np.abs(np.log(np.maximum(ratio, 1e-30) / threshold)) > 1e-2
    np.testing.assert_allclose(found[clear], np.where(chosen, 0.3 * way, 0.0)[clear], rtol=2e-3, atol=1e-6)
    assert 0.1 < chosen[way != 0].mean() < 0.9
    toy.same(after.extra["slow"], teacher)


def test_sfron_repairs_the_fast_weights_and_follows_slowly(weighed, teacher):
    state, _, _ = weighed
    fast, _ = update("sfron", state, both(sfron.ASCEND))
    repaired, loss = update("sfron", fast, both(sfron.REPAIR), lr=0.1, **STILL)
    assert float(loss) == pytest.approx(cross_entropy(fast.params, both().retain).mean(), rel=1e-4)
    step_is(fast.params, repaired.params, slope(fast.params, both().retain), 0.1)
    toy.same(repaired.extra["slow"], teacher)
    after, _ = update("sfron", repaired, both(sfron.FOLLOW), slow=0.3)
    law = jax.tree.map(lambda a, b: np.asarray(0.7 * a + 0.3 * b), teacher, repaired.params)
    toy.close(after.params, law, 1e-6)
    toy.same(after.extra["slow"], after.params)
    toy.same(finish("sfron", after)["params"], after.params)


def test_sfron_ends_every_round_by_following():
    plan = sfron.plan(toy.SIZES, {"rounds": 2, "inner": 3, "batch": 8}, Recipe())
    round_ = [sfron.ASCEND, *[sfron.REPAIR] * 3, sfron.FOLLOW]
    np.testing.assert_array_equal(plan.phase, [sfron.SCORE_F] * 2 + [sfron.SCORE_R] * 5 + round_ * 2)
    assert plan.forget_pass == 2 and plan.retain_pass == 5


# --- RFE -----------------------------------------------------------------------------------------------------------


_without_rise, _distance = jax.jit(rfe.without_rise), jax.jit(rfe.gaussian_distance)


def test_only_a_rising_component_is_removed():
    rng = np.random.default_rng(0)
    tree = lambda: {
        "a": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=5), jnp.float32),
    }
    gradient, across = tree(), tree()
    g = flat(gradient)
    across = jax.tree.map(lambda x, y: x - y * jnp.float32(flat(across) @ g / (g @ g)), across, gradient)
    for along, left in ((0.7, 0.0), (0.0, 0.0), (-0.7, -0.7)):
        update_ = jax.tree.map(lambda x, y, c=along: x + jnp.float32(c) * y, across, gradient)
        expected = flat(across) + left * g
        np.testing.assert_allclose(flat(_without_rise(update_, gradient)), expected, rtol=1e-5, atol=1e-6)
    toy.same(_without_rise(across, jax.tree.map(jnp.zeros_like, gradient)), across)


def test_the_gaussian_distance_equals_its_closed_form():
    rng = np.random.default_rng(0)
    a, b, weight = rng.normal(size=(7, 4)), 2 * rng.normal(size=(7, 4)) + 1, np.array([1, 1, 1, 0, 1, 0, 0.0])
    some = weight > 0
    expected = np.square(a[some].mean(axis=0) - b[some].mean(axis=0)).sum()
    expected += np.square(a[some].std(axis=0) - b[some].std(axis=0)).sum()
    found = _distance(*(jnp.asarray(x, jnp.float32) for x in (a, b, weight)))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(_distance(*(jnp.asarray(x, jnp.float32) for x in (a, a, weight)))) == 0.0


RFE = (("adjacent", 0.4), ("batch", 9))


def adjacent(teacher):
    """(8,) which of the retained examples of ``both()`` are adjacent: 4 of 9 slots, by the largest cosine."""
    near = cosine(outputs(teacher, both().retain)[1], outputs(teacher, both().forget)[1]).max(axis=1)
    return near >= np.sort(near)[-4]


def test_rfe_constrains_the_loss_of_remote_retained_data(teacher, student):
    far = ~adjacent(teacher)
    settings = {"multiplier": 0.8, "tolerance": 0.05, "rho": 2.0, "dual_lr": 0.1, "bound": np.inf}
    state = begin("rfe", whole(teacher), static=RFE, **settings)._replace(params=student)
    after, loss = update("rfe", state, both(rfe.CONSTRAIN), static=RFE, **settings)
    excess = (
        cross_entropy(student, both().retain)[far].mean() - cross_entropy(teacher, both().retain)[far].mean() - 0.05
    )
    pressed = max(0.8 + 2.0 * excess, 0.0)
    expected = -cross_entropy(student, both().forget).mean() + (pressed**2 - 0.8**2) / 4.0
    assert abs(excess) > 0.01 and float(loss) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert float(after.extra["multiplier"]) == pytest.approx(max(0.8 + 0.1 * excess, 0.0), rel=1e-4)
    toy.same(after.extra["original"], whole(teacher))


def test_rfe_spares_adjacent_data_whatever_adam_makes_of_the_gradient(teacher, student):
    near = adjacent(teacher)
    state = begin("rfe", whole(teacher), static=RFE)._replace(params=student)
    after, loss = update("rfe", state, both(rfe.PROJECT), static=RFE, w2=0.7, bound=np.inf, lr=1e-3)
    before, now = (outputs(p, both().retain)[1][near] for p in (teacher, student))
    spread = lambda x: np.sqrt(x.var(axis=0) + 1e-6)
    pull = np.square(before.mean(axis=0) - now.mean(axis=0)).sum() + np.square(spread(before) - spread(now)).sum()
    ascent = cross_entropy(student, both().forget).mean()
    assert float(loss) == pytest.approx(0.7 * pull - ascent, rel=1e-3)
    g = flat(slope(student, batch(toy.KEPT[:8][near])))
    step = flat(moved(after.params, student))
    assert step @ g <= 1e-3 * np.linalg.norm(step) * np.linalg.norm(g)
    assert cross_entropy(after.params, both().forget).mean() > ascent


def test_rfe_has_as_many_updates_of_each_kind():
    plan = rfe.plan(toy.SIZES, {"steps": 7, "batch": 8}, Recipe())
    np.testing.assert_array_equal(plan.phase, [rfe.CONSTRAIN] * 7 + [rfe.PROJECT] * 7)
