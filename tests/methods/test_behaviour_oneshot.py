"""One-shot methods against dense and closed-form truths in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.flatten_util import ravel_pytree

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, certified_removal, fisher, newton, parts, ssd, woodfisher
from unlearn_jax.methods import warnecke_first as first
from unlearn_jax.methods.common import Problem, Recipe
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.metrics.ridge import leave_out_leverage, retrain_residual, ridge_fit
from unlearn_jax.models import build_model
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.order import slots
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import Fold, Stored
from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch, Model, Outputs, Task

SHAPE, WIDTH, K = (2, 2, 1), 4, toy.CLASSES
WEIGHTS = 4 * WIDTH + WIDTH + WIDTH * K + K  # 35
KEPT = [np.arange(40), np.arange(3, 32)]  # passes of 3 batches of 16: the second member has dead slots
ASKED = [np.arange(40, 50), np.arange(41, 48)]
SIZES = Sizes(10, 40, K)
ALL = np.arange(toy.ROWS)


@functools.cache
def problem():
    """Classify the corner of the toy images with one hidden layer of four units."""
    model = build_model("mlp", K, SHAPE, widths=(WIDTH,))
    return Problem(model, classification(), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32), K, Recipe())


@functools.cache
def start():
    """Variables of two members, biases included, far from any minimum; read only."""
    init = lambda key: problem().model.init(key, jnp.zeros((1, *SHAPE)))
    found = jax.vmap(init)(jax.random.split(jax.random.key(0)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.asarray(x) + rng.normal(scale=0.5, size=x.shape).astype(np.float32), found)


def examples(targets=None):
    """The stored examples, optionally with other labels."""
    inputs, own = toy.examples()
    return Stored(jnp.asarray(inputs[:, :2, :2]), jnp.asarray(own if targets is None else targets))


def batch(rows, weight=None):
    """Some of the examples as a batch."""
    data, rows = examples(), np.asarray(rows)
    weight = jnp.ones(len(rows)) if weight is None else jnp.asarray(weight, jnp.float32)
    return Batch(data.inputs[rows], data.targets[rows], weight, jnp.asarray(rows, jnp.int32))


def variables(member):
    """One member's variables on the device."""
    return jax.tree.map(jnp.asarray, toy.member(start(), member))


def flat(tree, member=None):
    """(P,) the parameters in double precision, in the order of ``ravel_pytree``."""
    params = tree["params"] if member is None else toy.member(tree["params"], member)
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)]).astype(np.float64)


@functools.cache
def made(name, static, task=problem, sizes=SIZES):
    """Fold and plan of a method; the same fold for the same settings, so that programs are reused."""
    entry = METHODS[name]
    static = entry.static | dict(static)
    return Fold(lambda hp, shared: entry.build(task(), static, hp)), entry.plan(sizes, static, task().recipe)


def keys(name, members=2):
    return member_keys(0, name, members)


def run(name, *, data=None, own=None, kept=KEPT, asked=ASKED, static=None, task=problem, sizes=SIZES, cut=None, **hp):
    """Final variables, by member, of a method's whole run on the population of two."""
    fold, plan = made(name, tuple(({"batch": 16} | (static or {})).items()), task, sizes)
    if cut is not None:
        plan = plan._replace(**{k: v[:cut] for k, v in plan._asdict().items() if isinstance(v, np.ndarray)})
    own = start() if own is None else own
    return toy.train(
        len(kept), fold=fold, plan=plan, hp=METHODS[name].numeric | hp, data=examples() if data is None else data,
        sets=make_tables(kept, asked), keys=keys(name, len(kept)), start=own,
    ).variables  # fmt: skip


# --- the truth: the network in NumPy -------------------------------------------------------------------------------


def forward(member, rows):
    """Inputs, pre-activations, hidden units and logits of some rows, in double precision."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), toy.member(start()["params"], member))
    x = np.asarray(examples().inputs, np.float64)[rows].reshape(len(rows), -1)
    before = x @ p["dense0"]["kernel"] + p["dense0"]["bias"]
    hidden = np.maximum(before, 0)
    return p, x, before, hidden, hidden @ p["head"]["kernel"] + p["head"]["bias"]


@functools.cache
def derivatives(member):
    """(rows, K, P) derivatives of the logits by backpropagation, an example and a class at a time."""
    p, x, before, hidden, _ = forward(member, ALL)
    found = np.zeros((len(ALL), K, WEIGHTS))
    for i in ALL:
        for k in range(K):
            unit = p["head"]["kernel"][:, k] * (before[i] > 0)
            chosen = np.eye(K)[k]
            found[i, k] = np.concatenate(
                [unit, np.outer(x[i], unit).ravel(), chosen, np.outer(hidden[i], chosen).ravel()]
            )
    return found


def jacobian(member, rows):
    return derivatives(member)[rows]


def probabilities(member, rows):
    logits = forward(member, rows)[-1]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def gradients(member, rows, labels=None):
    """(n, P) gradient of each example's cross-entropy."""
    labels = toy.examples()[1][rows] if labels is None else labels
    slope = probabilities(member, rows) - np.eye(K)[labels]
    return np.einsum("nk,nkp->np", slope, jacobian(member, rows))


def gauss_newton(member, rows):
    """(P, P) sum over examples of J' (diag p - p p') J."""
    p, j = probabilities(member, rows), jacobian(member, rows)
    curve = np.einsum("nk,kl->nkl", p, np.eye(K)) - p[:, :, None] * p[:, None, :]
    return np.einsum("nkp,nkl,nlq->pq", j, curve, j)


def sum_of_gradients(member, rows):
    return gradients(member, rows).sum(axis=0)


def test_the_truth_is_the_models_gradient():
    program = jax.jit(lambda own: parts.loss_gradient(problem(), own, batch(KEPT[1])))
    for member in (0, 1):
        found = program(variables(member))
        np.testing.assert_allclose(flat({"params": found}), sum_of_gradients(member, KEPT[1]), rtol=2e-4, atol=1e-5)


# --- sums over examples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, micro", [(1, 16), (7, 16), (12, 5), (37, 16), (32, 8)])
def test_a_sum_over_examples_counts_each_by_its_weight_whatever_the_batch_size(size, micro):
    weight = np.random.default_rng(size).uniform(0.2, 1.0, size)
    weight[size // 2 + 1 :: 2] = 0.0  # dead slots

    def one(example):
        assert example.inputs.shape == (1, *SHAPE)
        return {"square": example.inputs[0] ** 2, "row": example.index[0].astype(jnp.float32)}

    rows = np.random.default_rng(1).permutation(60)[:size]
    found = jax.jit(lambda b: parts.sum_over_examples(one, b, micro))(batch(rows, weight))
    x = np.asarray(examples().inputs, np.float64)[rows]
    np.testing.assert_allclose(found["square"], (weight[:, None, None, None] * x**2).sum(axis=0), rtol=1e-5)
    assert float(found["row"]) == pytest.approx((weight * rows).sum(), rel=1e-5)


def test_a_sum_over_dead_slots_alone_is_zero():
    program = jax.jit(lambda b: parts.sum_over_examples(lambda e: e.inputs.sum() + 1.0, b, 4))
    assert float(program(batch(np.arange(6), np.zeros(6)))) == 0.0
    assert float(program(batch(np.arange(6)))) != 0.0


# --- SSD -----------------------------------------------------------------------------------------------------------


def dampening(w, forget, full, alpha, scale):
    """Equation 4 of the paper, a weight at a time."""
    found = w.copy()
    for i in range(len(w)):
        if forget[i] > alpha * full[i]:
            found[i] *= min(scale * full[i] / forget[i], 1.0)
    return found


def dampened_by(member, importance, alpha, scale, everything=True):
    """Weights that importances (n, P) of all rows give; D is F and R, or R alone."""
    forget, retain = importance[ASKED[member]], importance[KEPT[member]]
    full = np.concatenate([forget, retain]) if everything else retain
    return dampening(flat(start(), member), forget.mean(axis=0), full.mean(axis=0), alpha, scale)


CHOICE = dict(alpha=1.3, scale=0.8)


@pytest.mark.parametrize("size", [16, 7])
def test_ssd_dampens_by_squared_gradients_of_single_examples_in_batches_of_any_size(size):
    after = run("ssd", static={"batch": size, "micro": 4}, **CHOICE)
    for member in (0, 1):
        squares, before = gradients(member, ALL) ** 2, flat(start(), member)
        truth = dampened_by(member, squares, **CHOICE)
        changed = truth != before
        assert 3 < changed.sum() < WEIGHTS - 3
        np.testing.assert_allclose(flat(after, member), truth, rtol=2e-4, atol=1e-6)
        np.testing.assert_array_equal(flat(after, member)[~changed], before[~changed])
        without_request = dampened_by(member, squares, **CHOICE, everything=False)
        assert np.abs(truth - without_request).max() > 0.01  # D is all data, the request included


def test_ssd_is_not_the_public_codes_square_of_batch_means():
    after = run("ssd", static={"batch": 16, "micro": 4}, **CHOICE)
    for member in (0, 1):
        means = []
        for rows in (ASKED[member], KEPT[member], np.concatenate([ASKED[member], KEPT[member]])):
            batches = np.array_split(gradients(member, rows), -(-len(rows) // 16))
            means.append(np.mean([b.mean(axis=0) ** 2 for b in batches], axis=0))
        public = dampening(flat(start(), member), means[0], means[2], **CHOICE)
        assert np.abs(public - flat(after, member)).max() > 0.05


def test_dampening_is_bounded_and_leaves_weights_without_importance():
    forget, full = np.array([0.0, 1.0, 4.0, 4.0, 0.0, 3.0]), np.array([0.0, 1.0, 1.0, 0.0, 2.0, 1.0])
    for alpha, scale in ((1.0, 1.0), (2.0, 0.5), (2.0, 5.0), (10.0, 1.0)):
        one = {"w": jnp.asarray([1.0, -2.0, 3.0, -4.0, 5.0, 6.0])}
        found = ssd.dampened(one, {"w": jnp.float32(forget)}, {"w": jnp.float32(full)}, alpha, scale)["w"]
        np.testing.assert_allclose(found, dampening(np.asarray(one["w"]), forget, full, alpha, scale), rtol=1e-6)
        assert (np.abs(found) <= np.abs(one["w"])).all()


def test_ssd_without_a_request_changes_nothing():
    after = run("ssd", asked=[ASKED[0], np.arange(0)], static={"micro": 4}, **CHOICE)
    toy.same(toy.member(after, 1), toy.member(start(), 1))
    assert np.abs(flat(after, 0) - flat(start(), 0)).max() > 0.01


def test_lfssd_reads_no_label_and_takes_the_gradient_of_the_squared_output_norm():
    after = run("lfssd", static={"micro": 4}, alpha=1.0, scale=0.8)
    shuffled = np.random.default_rng(0).permutation(toy.examples()[1])
    toy.same(run("lfssd", data=examples(shuffled), static={"micro": 4}, alpha=1.0, scale=0.8), after)
    for member in (0, 1):
        size = np.abs(np.einsum("nk,nkp->np", 2 * forward(member, ALL)[-1], jacobian(member, ALL)))
        truth = dampened_by(member, size, alpha=1.0, scale=0.8)
        assert 3 < (truth != flat(start(), member)).sum() < WEIGHTS - 3
        np.testing.assert_allclose(flat(after, member), truth, rtol=2e-4, atol=1e-6)


# --- Fisher forgetting ---------------------------------------------------------------------------------------------


def expected_fisher(member, rows):
    """(P,) mean over examples and the model's own labels of the squared gradient, label by label."""
    total = np.zeros(WEIGHTS)
    for label in range(K):
        chance = probabilities(member, rows)[:, label]
        total += (chance[:, None] * gradients(member, rows, np.full(len(rows), label)) ** 2).sum(axis=0)
    return total / len(rows)


def variance(found, clamp, power):
    """(P,) variance of the noise per unit of alpha, tensor by tensor as the public code has it."""
    bias0, kernel0, bias, kernel = np.split((found + 1e-8) ** -power, np.cumsum([WIDTH, 4 * WIDTH, K]))
    by_unit = lambda x, limit, out: np.tile(np.minimum(x, limit).reshape(-1, out).mean(axis=0), x.size // out)
    return np.concatenate(
        [
            10 * np.minimum(bias0, clamp),
            by_unit(kernel0, clamp, WIDTH),
            10 * np.minimum(bias, clamp / 10),
            10 * by_unit(kernel, clamp / 10, K),
        ]
    )


def test_the_fisher_diagonal_expects_over_the_models_own_labels():
    diagonal = jax.jit(lambda own, b: fisher.fisher_diagonal(problem(), own, b))
    found = sum(flat({"params": diagonal(variables(0), batch([row]))}) for row in KEPT[1]) / len(KEPT[1])
    np.testing.assert_allclose(found, expected_fisher(0, KEPT[1]), rtol=1e-4, atol=1e-8)
    empirical = (gradients(0, KEPT[1]) ** 2).mean(axis=0)
    assert np.abs(found - empirical).max() > 0.01  # the true labels would be another matrix


@pytest.mark.parametrize("clamp, power", [(1e3, 1.0), (20.0, 1.0), (1e3, 0.5)])
def test_the_variance_is_clamped_then_averaged_over_a_units_inputs(clamp, power):
    truth = expected_fisher(0, KEPT[0])
    assert 0 < (truth**-1 > 20.0).sum() < WEIGHTS
    tree = ravel_pytree(variables(0)["params"])[1](jnp.float32(truth))
    found = fisher.noise_variance(problem(), variables(0)["params"], tree, clamp, power)
    np.testing.assert_allclose(flat({"params": found}), variance(truth, clamp, power), rtol=1e-4)


def test_fisher_adds_noise_of_mean_zero_and_of_that_variance_to_every_weight():
    members, alpha = 80, 1e-4
    own = jax.tree.map(lambda x: np.repeat(x[:1], members, axis=0), start())
    sets = dict(kept=[KEPT[1]] * members, asked=[ASKED[1]] * members)
    after = run("fisher", own=own, **sets, static={"micro": 4}, alpha=alpha, clamp=1e3)
    moved = np.stack([flat(after, i) for i in range(members)]) - flat(start(), 0)
    scaled = moved / np.sqrt(alpha * variance(expected_fisher(0, KEPT[1]), 1e3, 1.0))
    assert np.abs(scaled.mean(axis=0)).max() < 4.5 / np.sqrt(members)
    assert np.abs(scaled.std(axis=0) - 1).max() < 4.5 / np.sqrt(2 * members)
    assert abs(scaled.mean()) < 4 / np.sqrt(scaled.size) and abs((scaled**2).mean() - 1) < 4 * np.sqrt(2 / scaled.size)
    between = np.corrcoef(scaled.T)[np.triu_indices(WEIGHTS, 1)]
    assert np.abs(between).max() < 0.5 and abs(between.mean()) < 0.05  # no two weights share a draw


# --- Newton steps --------------------------------------------------------------------------------------------------

D, RIDGE = 5, 12.0  # inputs, penalty on the sum
PLAIN, COPIED = np.arange(20), np.r_[np.arange(17), 23, 24, 25]  # rows 23..25 are copies of the request, 20..22
LINES = [
    (PLAIN, [20, 21, 22]),
    (COPIED, [20, 21, 22]),
    (np.r_[np.arange(12), 23], [20]),
    (np.r_[:12, 23, 26, 27], [20]),
]


def regression_examples():
    """28 examples of a noisy line; rows 23..25 repeat 20..22, 26 and 27 repeat 20."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(28, D))
    y = x @ rng.normal(size=D) + rng.normal(size=28)
    y[20:23] += 3.0  # what is asked for is unlike the rest
    x[23:26], y[23:26] = x[20:23], y[20:23]
    x[26:], y[26:] = x[20], y[20]
    return x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)


@functools.cache
def line():
    """Linear regression by squared error as a problem of the library."""

    def apply(own, x, key=None, train=False):
        layer = own["params"]["head"]
        return Outputs(x @ layer["kernel"] + layer["bias"][None], x), own["state"]

    def init(key, x):
        return {"params": {"head": {"kernel": jnp.zeros((D, 1)), "bias": jnp.zeros(1)}}, "state": {}}

    squared = lambda logits, b: 0.5 * (logits[:, 0] - b.targets) ** 2
    task = Task(squared, lambda z, b: -squared(z, b), lambda z, b: jnp.zeros_like(b.targets))
    return Problem(Model(init, apply), task, jax.ShapeDtypeStruct((1, D), jnp.float32), 2, Recipe())


def fitted(rows):
    """(1 + D,) the exact minimum on some rows, bias first, which is penalised as well."""
    x, y = regression_examples()
    x = np.c_[np.ones(len(x)), x]
    return ridge_fit(x[rows], y[rows], np.ones(len(rows)), RIDGE)


@functools.cache
def removed(solver):
    """What `influence` makes of the four exact fits, (4, 1 + D)."""
    fits = np.stack([fitted(np.r_[kept, asked]) for kept, asked in LINES]).astype(np.float32)
    own = {"params": {"head": {"bias": fits[:, :1], "kernel": fits[:, 1:, None]}}, "state": {}}
    x, y = regression_examples()
    # the plan expects 40: a batch of 20 holds all of any member, and every other LiSSA batch is dead
    static = {"solver": solver, "batch": 20 if solver == "lissa" else 8, "steps": 500 if solver == "lissa" else 12}
    damping = np.float32([RIDGE / len(kept) for kept, _ in LINES])
    after = run(
        "influence", data=Stored(jnp.float32(x), jnp.float32(y)), own=own, kept=[np.asarray(k) for k, _ in LINES],
        asked=[np.asarray(a) for _, a in LINES], static=static, task=line, sizes=Sizes(3, 40), damping=damping,
        scale=6.0,
    )  # fmt: skip
    return np.stack([flat(after, i) for i in range(len(LINES))])


@pytest.mark.parametrize("solver", newton.SOLVERS)
def test_influence_is_exact_removal_on_ridge_regression(solver):
    for found, (kept, asked) in zip(removed(solver), LINES):
        assert np.abs(fitted(np.r_[kept, asked]) - fitted(kept)).max() > 0.02
        np.testing.assert_allclose(found, fitted(kept), rtol=0, atol=1e-5)


def test_influence_leaves_what_the_copies_that_stay_tell():
    x = np.c_[np.ones(28), regression_examples()[0]]
    for member, copies in ((2, 1), (3, 3)):
        kept, asked = LINES[member]
        predict = lambda weights: x[20] @ weights
        oracle, original = predict(fitted(np.arange(12))), predict(fitted(np.r_[kept, asked]))
        leverage = leave_out_leverage(x[np.r_[:12, 20]], 12, RIDGE)
        left = (predict(removed("cg")[member]) - oracle) / (original - oracle)
        assert left == pytest.approx(retrain_residual(copies, leverage), abs=1e-4) and left > 0.5


BENT, TILT = np.array([4.0, 4.0, -0.1]), np.array([1.0, 2.0, 1.0])  # curvature of R, gradient of F


@functools.cache
def saddle():
    """Three free weights; the retained loss is an indefinite parabola, the request's a plane."""

    def apply(own, x, key=None, train=False):
        kernel = own["params"]["head"]["kernel"]
        return Outputs(kernel[None] + 0.0 * x, x), own["state"]

    def loss(z, b):
        return jnp.where(b.targets > 0, z @ jnp.float32(TILT), 0.5 * z**2 @ jnp.float32(BENT))

    init = lambda key, x: {"params": {"head": {"kernel": jnp.zeros(3)}}, "state": {}}
    task = Task(loss, loss, loss)
    return Problem(Model(init, apply), task, jax.ShapeDtypeStruct((1, 3), jnp.float32), 2, Recipe())


def test_conjugate_gradients_stop_for_good_at_negative_curvature():
    own = {"params": {"head": {"kernel": np.zeros((1, 3), np.float32)}}, "state": {}}
    data = Stored(jnp.zeros((4, 3)), jnp.asarray([0, 0, 1, 1], jnp.int32))
    for cut in (3, None):  # one iteration, all twelve
        after = run(
            "influence", data=data, own=own, kept=[np.arange(2)], asked=[np.arange(2, 4)], task=saddle,
            static={"steps": 12, "curvature": "hessian"}, sizes=Sizes(2, 2), damping=0.0, cut=cut,
        )  # fmt: skip
        first_line = (TILT @ TILT) / (TILT @ (BENT * TILT)) * TILT  # the only direction of positive curvature taken
        np.testing.assert_allclose(flat(after, 0), first_line, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_curvature_products_are_those_of_the_dense_matrix(kind):
    rows = np.arange(30, 50)
    weight = np.random.default_rng(0).uniform(0.5, 1.0, 20).astype(np.float32) * (np.arange(20) % 4 > 0)
    some, own = batch(rows, weight), variables(0)
    back = ravel_pytree(own["params"])[1]
    if kind == "ggn":
        truth = sum(w * gauss_newton(0, rows[i : i + 1]) for i, w in enumerate(weight))
    else:
        truth = jax.jit(jax.hessian(lambda p: parts.summed_loss(problem(), own | {"params": back(p)}, some)))(
            jnp.float32(flat(own))
        )
    product = jax.jit(lambda v: ravel_pytree(parts.curvature_product(problem(), own, some, back(v), kind))[0])
    found = np.stack([product(column) for column in np.eye(WEIGHTS, dtype=np.float32)], axis=1)
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=2e-5)
    lowest = np.linalg.eigvalsh((found + found.T) / 2)[0]
    assert lowest > -1e-4 if kind == "ggn" else lowest < -1e-2  # the two differ here
    with pytest.raises(InputError, match="unknown curvature 'fisher': choose ggn or hessian"):
        parts.curvature_product(problem(), own, some, own["params"], "fisher")


@pytest.mark.parametrize("change", ["relabel", "delete"])
def test_warneckes_first_step_is_tau_times_the_difference_of_gradients(change):
    after = run("warnecke_first", static={"change": change, "batch": 4}, tau=0.02)
    for member in (0, 1):
        truth = 0.02 * difference(member, "warnecke_first", change)
        assert np.abs(truth).max() > 0.02
        np.testing.assert_allclose(flat(after, member) - flat(start(), member), truth, rtol=1e-3, atol=2e-6)


def test_warneckes_second_step_is_newtons_with_that_difference():
    damping, rate = 0.3, 0.7
    after = run("warnecke_second", static={"solver": "dense"}, damping=damping, rate=rate)
    for member in (0, 1):
        kept, change = KEPT[member], difference(member, "warnecke_second", "relabel")
        curve = gauss_newton(member, kept) / len(kept) + damping * np.eye(WEIGHTS)
        truth = rate * np.linalg.solve(curve, change) / len(kept)
        assert np.abs(truth).max() > 0.02
        np.testing.assert_allclose(flat(after, member) - flat(start(), member), truth, rtol=1e-3, atol=1e-5)


def difference(member, name, change):
    """(P,) sum over the request of grad l(old) - grad l(new), new labels by the member's key."""
    rows = ASKED[member]
    old = sum_of_gradients(member, rows)
    if change == "delete":
        return old
    labels = np.asarray(wrong_labels(jax.random.fold_in(keys(name)[member], 0), batch(rows), K, False))
    assert (labels != toy.examples()[1][rows]).all()
    return old - gradients(member, rows, labels).sum(axis=0)


def test_an_unknown_change_is_refused():
    with pytest.raises(InputError, match="unknown change 'features': choose one of delete, relabel"):
        jax.eval_shape(
            lambda own: first.gradient_change(problem(), own, batch(ASKED[0]), jnp.zeros(2, jnp.uint32), "features"),
            variables(0),
        )


# --- WoodFisher ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m, size", [(12, 20), (20, 12), (1, 5)])
def test_the_inverse_is_the_dense_one_and_that_of_rank_one_updates(m, size):
    rng, damping = np.random.default_rng(m), 0.05
    rows, vector = rng.normal(size=(m, size)), rng.normal(size=size)
    found = woodfisher.inverse_times(jnp.float32(rows), damping, jnp.float32(vector), jnp.float32(m))
    dense = np.linalg.solve(damping * np.eye(size) + rows.T @ rows / m, vector)
    inverse = np.eye(size) / damping
    for g in rows:  # the published recursion
        inverse -= np.outer(inverse @ g, g @ inverse) / (m + g @ inverse @ g)
    np.testing.assert_allclose(inverse @ vector, dense, rtol=1e-9)
    np.testing.assert_allclose(found, dense, rtol=1e-4, atol=1e-4)


SAMPLES = 70  # more than anybody's examples, and not a number of whole batches


def sampled_rows(member):
    """Rows of the single examples: what the retained stream shows after its first pass of three batches of 16."""
    found = []
    for step in range(3, 3 + -(-SAMPLES // 16)):
        stream = jax.random.fold_in(jax.random.fold_in(keys("woodfisher")[member], 2), 0)
        at, live = _draw(stream, jnp.int32(step), 16, jnp.int32(len(KEPT[member])), jnp.int32(3))
        found.append(np.where(live, KEPT[member][np.asarray(at)], -1))
    rows = np.concatenate(found)[:SAMPLES]
    return rows[rows >= 0]


_draw = jax.jit(slots, static_argnums=2)


def test_woodfisher_weighs_both_sets_and_takes_single_retained_examples():
    alpha, damping = 0.6, 0.05
    after = run("woodfisher", static={"samples": SAMPLES}, alpha=alpha, damping=damping)
    for member in (0, 1):
        kept, asked, before = KEPT[member], ASKED[member], flat(start(), member)
        rows = sampled_rows(member)  # a whole pass, with dead slots, and the first 22 slots of the next
        assert np.isin(rows, kept).all() and len(rows) == len(kept) + 22
        n, forgotten, retained = len(kept) + len(asked), len(asked), len(kept)
        forget, single = sum_of_gradients(member, asked), gradients(member, rows)
        change = forget / n - forgotten / (n * retained) * sum_of_gradients(member, kept)
        matrix = damping * np.eye(WEIGHTS) + single.T @ single / len(rows)
        truth = alpha * np.linalg.solve(matrix, change)
        np.testing.assert_allclose(flat(after, member) - before, truth, rtol=2e-3, atol=2e-5)
        public = alpha * np.linalg.solve(matrix, forget * (1 / n - forgotten / (n * retained)))
        assert np.abs(public - truth).max() > 0.01  # where the request's loader stood for the retained one


# --- certified removal ---------------------------------------------------------------------------------------------

REQUESTS = [ASKED[0][:1], ASKED[1], ASKED[0], ASKED[1][:1]]  # one example, or a fifth of the data
HEADS = [dict(l2=1e-2, sigma=0.0), dict(l2=1e-2, sigma=0.1), dict(l2=1e-3, sigma=0.1), dict(l2=0.1, sigma=10.0)]


class Heads:
    """The logistic heads of one member, in double precision."""

    def __init__(self, i):
        self.l2, self.sigma, member = HEADS[i]["l2"], HEADS[i]["sigma"], i % 2
        self.kept, self.asked = KEPT[member], REQUESTS[i]
        self.both = np.concatenate([self.kept, self.asked])
        features = forward(member, ALL)[3]
        self.features = features / np.linalg.norm(features[self.both], axis=1).max()
        self.scale = np.linalg.norm(features[self.both], axis=1).max()
        key = jax.random.fold_in(keys("certified_removal", len(HEADS))[i], 0)
        self.noise = self.sigma * np.asarray(jax.random.normal(key, (K, WIDTH)), np.float64)
        self.signs = np.where(np.arange(K)[:, None] == toy.examples()[1], 1.0, -1.0)

    def gradient(self, w, rows):
        """(K, D) gradient of the noisy objective on some rows."""
        x, signs = self.features[rows], self.signs[:, rows]
        return -(signs / (1 + np.exp(signs * (w @ x.T)))) @ x + len(rows) * self.l2 * w + self.noise

    def hessian(self, w, rows, k):
        x = self.features[rows]
        bend = 1 / (2 + np.exp(x @ w[k]) + np.exp(-x @ w[k]))
        return x.T @ (bend[:, None] * x) + len(rows) * self.l2 * np.eye(WIDTH)

    def newton(self, w, rows):
        slope = self.gradient(w, rows)
        return np.stack([np.linalg.solve(self.hessian(w, rows, k), slope[k]) for k in range(K)])

    def fit(self, rows):
        """(K, D) the minimum, by damped Newton steps."""
        w = np.zeros((K, WIDTH))
        for step in range(300):
            w = w - (0.2 if step < 100 else 1.0) * self.newton(w, rows)
        assert np.abs(self.gradient(w, rows)).max() < 1e-9
        return w

    def of(self, tree, i):
        """(K, D) weights on scaled features of a final network."""
        layer = toy.member(tree["params"]["head"], i)
        assert (layer["bias"] == 0.0).all()
        return np.asarray(layer["kernel"], np.float64).T * self.scale


def heads(cut=None):
    given = {name: np.float32([h[name] for h in HEADS]) for name in ("l2", "sigma")}
    own = jax.tree.map(lambda x: np.concatenate([x, x]), start())
    return run("certified_removal", own=own, kept=KEPT * 2, asked=REQUESTS, cut=cut, **given)


TRAINED = 4 + 8 * 5  # a pass of 1 + 3 batches to measure, and 8 times a pass and a step


def test_the_certified_head_is_trained_to_its_optimum_on_all_data():
    found = heads(TRAINED)
    for i in range(len(HEADS)):
        own = Heads(i)
        w = own.of(found, i)
        assert np.abs(own.gradient(w, own.both)).max() < 1e-3
        np.testing.assert_allclose(w, own.fit(own.both), atol=2e-3, rtol=1e-3)
        np.testing.assert_array_equal(
            found["params"]["dense0"]["kernel"][i], start()["params"]["dense0"]["kernel"][i % 2]
        )


def test_certified_removal_comes_close_to_a_refit_and_within_its_bound():
    found, useful = heads(), []
    for i in range(len(HEADS)):
        own = Heads(i)
        before, after, refit = own.fit(own.both), own.of(found, i), own.fit(own.kept)
        np.testing.assert_allclose(after, before - own.newton(before, own.kept), rtol=2e-3, atol=2e-3)
        share = 0.05 if len(own.asked) == 1 else 0.3
        assert np.linalg.norm(after - refit) < share * np.linalg.norm(before - refit)
        left, without = own.gradient(after, own.kept), own.gradient(before, own.kept)
        for k in range(K):
            step = (after - before)[k]
            bound = certified_removal.gradient_residual_bound(own.features[own.kept], step)
            assert np.linalg.norm(left[k]) <= bound + 1e-4
            useful.append(bound < np.linalg.norm(without[k]))
    assert np.mean(useful) > 0.5  # the bound says more than that nothing was done


def test_the_bound_holds_for_any_logistic_model_and_scales_as_published():
    rng = np.random.default_rng(0)
    tight = []
    for _ in range(200):
        n, width = rng.integers(5, 60), rng.integers(1, 6)
        x = rng.normal(size=(n, width))
        x /= np.linalg.norm(x, axis=1).max()
        sign, l2 = rng.choice([-1.0, 1.0], n), 10 ** rng.uniform(-3, 0)
        at = 3 * rng.normal(size=width)
        slope = lambda w, x=x, s=sign, n=n, l2=l2: -(s / (1 + np.exp(s * (x @ w)))) @ x + n * l2 * w
        bend = 1 / (2 + np.exp(x @ at) + np.exp(-x @ at))
        change = 0.5 * rng.normal(size=width)  # the gradient that a removal would leave at the optimum
        step = np.linalg.solve(x.T @ (bend[:, None] * x) + n * l2 * np.eye(width), change)
        left = slope(at + step) - slope(at) - change
        bound = certified_removal.gradient_residual_bound(x, step)
        assert np.linalg.norm(left) <= bound * (1 + 1e-9)
        tight.append(np.linalg.norm(left) / bound)
        assert certified_removal.gradient_residual_bound(x, 2 * step) == pytest.approx(4 * bound)
        assert certified_removal.gradient_residual_bound(x, step, 0.5) == pytest.approx(2 * bound)
    assert max(tight) > 0.1  # not true for the reason that it is huge


def test_epsilon_is_that_of_the_gaussian_mechanism():
    found = certified_removal.certified_epsilon(0.02, 0.5, 1e-3)
    c = found * 0.5 / 0.02
    assert 1.5 * np.exp(-(c**2) / 2) == pytest.approx(1e-3)
    assert certified_removal.certified_epsilon(0.04, 1.0, 1e-3) == pytest.approx(found)
    assert certified_removal.certified_epsilon(0.02, 0.5) > found  # a smaller delta


# --- linear systems and layers by depth ----------------------------------------------------------------------------


def test_solve_needs_pivots_and_takes_one_or_several_right_sides_under_vmap():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 6, 6))
    matrices[0, 0, 0] = 0.0
    matrices[1] = np.eye(6)[[3, 0, 5, 1, 2, 4]]
    matrices[2] = matrices[2] @ np.diag(4.0 ** np.arange(-3, 3)) @ matrices[2].T
    right = rng.normal(size=(3, 6, 2))
    program = jax.jit(jax.vmap(parts.solve))
    found = program(jnp.float32(matrices), jnp.float32(right))
    for a, b, x in zip(matrices, right, np.asarray(found, np.float64)):
        np.testing.assert_allclose(a @ x, b, atol=2e-6 * np.linalg.cond(a) ** 0.5 + 1e-5)
    np.testing.assert_allclose(found[:2], np.linalg.solve(matrices[:2], right[:2]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(program(jnp.float32(matrices), jnp.float32(right[:, :, 0])).shape, (3, 6))


@functools.cache
def layered(name):
    """A problem and the parameters of a model with many layers."""
    model = build_model(name, K, (8, 8, 1), **MODELS[name])
    task = Problem(model, classification(), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), K, Recipe())
    return task, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]


MODELS = {"mlp": {"widths": (3,) * 11}, "convnet": {"widths": (2, 2, 4)}}
ORDERS = {"mlp": [f"dense{i}" for i in range(11)] + ["head"], "convnet": ["block0", "block1", "block2", "head"]}


def live(mask):
    """Paths of the leaves that are 1; all others are 0."""
    found = jax.tree_util.tree_flatten_with_path(mask)[0]
    assert all((x == 0).all() or (x == 1).all() for _, x in found)
    return {"/".join(part.key for part in path) for path, x in found if np.asarray(x).all()}


@pytest.mark.parametrize("name", MODELS)
def test_groups_come_in_the_order_of_the_network_and_not_of_the_alphabet(name):
    task, params = layered(name)
    order = ORDERS[name]
    assert list(parts.depth_order(task.model, task.example.shape, "float32")) == order
    assert set(order) == set(params)
    for count in (1, 2, 3, len(order)):
        mask = parts.last_groups(task, params, count)
        assert jax.tree.structure(mask) == jax.tree.structure(params)
        assert {path.split("/")[0] for path in live(mask)} == set(order[-count:])
        assert len(live(mask)) == len(jax.tree.leaves({n: params[n] for n in order[-count:]}))
    for count in (0, -1, len(order) + 1):
        with pytest.raises(InputError, match=f"k is {count} and the model has {len(order)} groups"):
            parts.last_groups(task, params, count)


def test_convolutions_are_the_kernels_of_four_axes_or_else_the_dense_ones_before_the_head():
    task, params = layered("convnet")
    found = live(parts.convolutions(task, params))
    assert len(found) == 3 and {path.split("/")[0] for path in found} == {"block0", "block1", "block2"}
    assert all(path.endswith("kernel") for path in found)
    task, params = layered("mlp")
    assert live(parts.convolutions(task, params)) == {f"dense{i}/kernel" for i in range(11)}
