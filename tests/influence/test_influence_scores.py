"""Influence scores against dense float64 NumPy solutions, and against models trained again without rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from refusals import refuses
from sklearn.datasets import load_digits

from unlearn_jax.influence import score_checks, score_programs
from unlearn_jax.influence.curvature import dense, operator
from unlearn_jax.influence.group_influence import group_influence
from unlearn_jax.influence.per_example import batch_of, flatten
from unlearn_jax.influence.scores import influence, self_influence
from unlearn_jax.models import build_model
from unlearn_jax.tasks import classification, free_text
from unlearn_jax.types import Model, Outputs, Task

TASK, CLASSES, L2, DAMPING = classification(), 3, 0.02, 0.005
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: COMPILED.append(event) if event.endswith("backend_compile_duration") else None
)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def digits():
    inputs, targets = load_digits(n_class=CLASSES, return_X_y=True)
    inputs = inputs.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16
    noisy = (targets + (np.arange(len(targets)) % 7 == 0)) % CLASSES
    return inputs[:40], noisy[:40].astype(np.int64), inputs[40:52], targets[40:52].astype(np.int64)


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def numpy_parts(weights, inputs, targets, theta):
    """Gradients of losses, of margins, and the Hessian of the weighted mean loss with decay; theta (17, 3)."""
    full = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)  # the bias comes first in the vector
    p, true = softmax(full @ theta), np.eye(CLASSES)[targets]
    flat = lambda slopes: np.einsum("nk,nd->ndk", slopes, full).reshape(len(inputs), -1)
    bent = np.stack([np.diag(row) - np.outer(row, row) for row in p]) * weights[:, None, None]
    hessian = np.einsum("nd,nkl,ne->dkel", full, bent, full).reshape(2 * [theta.size]) / len(inputs)
    odds = true - (1 - true) * p / (1 - (p * true).sum(axis=1))[:, None]
    return flat(p - true), flat(odds), hessian + L2 * np.eye(theta.size)


def fitted(weights, inputs, targets):
    """Parameters (17, 3) of softmax regression by Newton's method in NumPy."""
    theta = np.zeros((17, CLASSES))
    for _ in range(30):
        slopes, _, hessian = numpy_parts(weights, inputs, targets, theta)
        slope = weights @ slopes / len(inputs) + L2 * theta.ravel()
        theta = theta - np.linalg.solve(hessian, slope).reshape(theta.shape)
    assert np.abs(slope).max() < 1e-12
    return theta


@functools.cache
def linear():
    with jax.enable_x64(True):
        return build_model("linear", CLASSES, (16,), dtype="float64")


def as_variables(theta):
    return {"params": {"head": {"bias": jnp.asarray(theta[0]), "kernel": jnp.asarray(theta[1:])}}, "state": {}}


def regression(weights=None):
    inputs, targets, asked, labels = digits()
    weights = np.ones(40) if weights is None else weights
    theta = fitted(weights, inputs, targets)
    rows = batch_of(inputs, targets, weights), batch_of(asked, labels)
    return (linear(), TASK, as_variables(theta), *rows), theta, (weights, inputs, targets), (asked, labels)


def exact(parts, of, weights, damping=DAMPING):
    slopes, _, hessian = parts
    return (weights[:, None] * slopes) @ np.linalg.solve(hessian + damping * np.eye(len(hessian)), of.T)


def near(found, right, tolerance):
    np.testing.assert_allclose(found, right, rtol=0, atol=tolerance * np.abs(right).max())


def test_explicit_scores_are_a_dense_solve_in_numpy(double):
    weights = np.where(np.arange(40) % 9 == 4, 0.0, 1 + np.arange(40) % 3 / 3)
    given, theta, rows, others = regression(weights)
    parts, asked = numpy_parts(*rows, theta), numpy_parts(np.ones(12), *others, theta)
    settings = dict(l2=L2, damping=DAMPING)
    right = exact(parts, asked[0], weights)
    found = influence(*given, **settings)
    assert found.shape == (40, 12) and found.dtype == jnp.float64
    near(found, right, 1e-8)
    assert (found[4] == 0).all() and np.abs(right[0]).max() > 0
    near(influence(*given, **settings, curvature="ggn", micro=7), right, 1e-8)
    near(influence(*given, **settings, quantity="margin"), -exact(parts, asked[1], weights), 1e-8)
    own = np.einsum("ii->i", exact(parts, parts[0], weights))
    near(self_influence(*given[:4], **settings), own, 1e-8)
    margin = np.einsum("ii->i", exact(parts, -parts[1], weights))
    near(self_influence(*given[:4], **settings, quantity="margin"), margin, 1e-8)
    mean = np.trace(parts[2]) / len(parts[2])
    near(influence(*given, l2=L2, relative_damping=0.1), exact(parts, asked[0], weights, 0.1 * mean), 1e-8)


def test_scores_predict_training_again(double):
    given, theta, (weights, inputs, targets), (asked, labels) = regression()
    loss = lambda theta: -np.log(softmax(asked @ theta[1:] + theta[0])[np.arange(12), labels])
    odds = lambda theta: np.log(1 / (np.exp(loss(theta)) - 1))
    again = [fitted(np.where(np.arange(40) == i, 0.0, 1.0), inputs, targets) for i in range(0, 40, 3)]
    for quantity, rise in (
        ("loss", lambda new: loss(new) - loss(theta)),
        ("margin", lambda new: odds(theta) - odds(new)),
    ):
        scores = np.asarray(influence(*given, l2=L2, damping=0.0, quantity=quantity))[::3] / 40
        truth = np.stack([rise(new) for new in again])
        assert np.corrcoef(scores.ravel(), truth.ravel())[0, 1] > 0.99
        assert 0.85 < (scores * truth).sum() / (scores**2).sum() < 1.15  # in the same unit


NEAR = {  # settings of each solver, and how near it comes
    "explicit": ({}, 1e-8),
    "cg": (dict(tolerance=1e-7), 1e-5),
    "nystrom": (dict(tolerance=1e-7, rank=20), 1e-5),
    "lanczos": (dict(rank=1000), 1e-8),
    "lissa": (dict(tolerance=1e-4), 1e-3),
}


@functools.cache
def perceptron():
    """A perceptron on the digits, and what `jax.hessian` of its flat loss makes of it."""
    inputs, targets, asked, labels = digits()
    model = build_model("mlp", CLASSES, (16,), widths=(4,), dtype="float64")
    train, queries = batch_of(inputs, targets), batch_of(asked, labels)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), jax.jit(model.init)(jax.random.key(1), train.inputs))
    flat = flatten(variables)
    losses = lambda w, batch: TASK.loss(model.apply(flat.rebuild(w), batch.inputs)[0].logits, batch)
    mean = lambda w: losses(w, train).mean() + L2 / 2 * (w @ w)
    slopes = lambda batch: np.asarray(jax.jit(jax.jacfwd(lambda w: losses(w, batch)))(flat.vector))
    hessian = np.asarray(jax.jit(jax.hessian(mean))(flat.vector))
    return (model, TASK, variables, train, queries), (slopes(train), slopes(queries), hessian)


@pytest.mark.parametrize("solver", toy.some(NEAR, 2))
def test_every_solver_on_a_perceptron(double, solver):
    given, (slopes, asked, hessian) = perceptron()
    least = np.linalg.eigvalsh(hessian)[0]
    settings, tolerance = NEAR[solver]
    settings = dict(settings, solver=solver, l2=L2, damping=0.1 - least)
    right = slopes @ np.linalg.solve(hessian + settings["damping"] * np.eye(len(hessian)), asked.T)
    near(influence(*given, **settings), right, tolerance)


def test_fewer_rows_of_training_than_queries_are_solved_for(double):
    (model, task, variables, train, queries), (slopes, asked, _) = perceptron()
    few, flat, weight = jax.tree.map(lambda x: x[:5], train), flatten(variables), np.array([1.0, 0.0, 1.0, 1.0, 1.0])
    losses = lambda w: TASK.loss(model.apply(flat.rebuild(w), few.inputs)[0].logits, few)
    mean = lambda w: losses(w) @ weight / 5 + L2 / 2 * (w @ w)
    shifted = np.asarray(jax.jit(jax.hessian(mean))(flat.vector)) + np.eye(len(flat.vector))
    right = weight[:, None] * (slopes[:5] @ np.linalg.solve(shifted, asked.T))
    few = few._replace(weight=few.weight.at[1].set(0.0))
    found = influence(model, task, variables, few, queries, l2=L2, damping=1.0, solver="cg", tolerance=1e-10)
    near(found, right, 1e-8)


@pytest.mark.slow
def test_the_hessian_of_a_perceptron_is_refused_where_it_is_not_positive(double):
    given, (_, _, hessian) = perceptron()
    least = np.linalg.eigvalsh(hessian)[0] - L2
    assert least < -1e-3
    refuses(rf"least eigenvalue is {least + 1e-4:.3g} with damping 0.0001.*ggn", influence, *given, damping=1e-4)
    refuses("raise damping", influence, *given, damping=1e-4, solver="cg")
    assert np.isfinite(influence(*given, damping=1e-4, curvature="ggn")).all()


def quadratic():
    """Least squares on one output: a model, its task, and six copies of one row among thirty."""
    model = Model(
        lambda key, inputs: {"params": {"w": jnp.zeros(inputs.shape[1], inputs.dtype)}, "state": {}},
        lambda variables, inputs, key=None, train=False: (
            Outputs((inputs @ variables["params"]["w"])[:, None], inputs),
            {},
        ),
    )
    off = lambda logits, batch: logits[:, 0] - batch.targets
    task = Task(lambda z, b: off(z, b) ** 2 / 2, lambda z, b: z[:, 0], lambda z, b: jnp.ones(len(z)))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(30, 5))
    inputs[:6] = 4 * inputs[0]
    return model, task, inputs, inputs @ rng.normal(size=5) + rng.normal(size=30)


def ridge(weights, inputs, targets):
    matrix = inputs.T @ (weights[:, None] * inputs) / len(inputs) + L2 * np.eye(inputs.shape[1])
    return np.linalg.solve(matrix, inputs.T @ (weights * targets) / len(inputs)), matrix


@pytest.mark.parametrize("solver", toy.some(["explicit", "cg", "nystrom", "lanczos", "lissa"], 1))
def test_groups_are_training_again_where_the_loss_is_quadratic(double, solver):
    model, task, inputs, targets = quadratic()
    w, _ = ridge(np.ones(30), inputs, targets)
    asked = np.random.default_rng(1).normal(size=(4, 5))
    batches = batch_of(inputs, targets), batch_of(asked, np.zeros(4))
    groups = [[0, 1, 2, 3, 4, 5], np.array([7]), np.arange(10, 25), []]
    settings = {"cg": dict(tolerance=1e-12), "nystrom": dict(tolerance=1e-12), "lissa": dict(tolerance=1e-12)}
    settings = dict(settings.get(solver, {}), solver=solver, l2=L2, damping=0.0, quantity="margin")
    given = model, task, {"params": {"w": jnp.asarray(w)}, "state": {}}, *batches, groups
    found = group_influence(*given, **settings)
    fall = np.stack([asked @ (w - ridge(~np.isin(np.arange(30), g) * 1.0, inputs, targets)[0]) for g in groups])
    near(found / 30, fall, 1e-8)
    assert (found[3] == 0).all()
    plain = group_influence(*given, **settings, curvature_term=False)
    scores = influence(*given[:-1], **settings)
    near(plain, np.stack([np.asarray(scores)[np.asarray(g, int)].sum(axis=0) for g in groups]), 1e-12)
    assert (np.abs(plain[0]) / 30 < 0.5 * np.abs(fall[0])).all()  # a cluster of duplicates
    assert np.abs(plain[1] / 30 - fall[1]).max() < 0.2 * np.abs(fall[1]).max()  # a row alone


def test_groups_are_one_newton_step(double):
    weights = 1 + np.arange(40) % 3 / 3
    given, theta, rows, others = regression(weights)
    slopes, _, _ = numpy_parts(*rows, theta)
    asked, _, _ = numpy_parts(np.ones(12), *others, theta)
    groups = [np.arange(10), np.array([3, 30]), np.arange(5, 35)]
    masks = np.stack([np.isin(np.arange(40), g) for g in groups]) * 1.0
    right = []
    for mask in masks:
        _, _, rest = numpy_parts(weights * (1 - mask), *rows[1:], theta)
        right.append(asked @ np.linalg.solve(rest + DAMPING * np.eye(51), (weights * mask) @ slopes))
    settings = dict(l2=L2, damping=DAMPING)
    found = group_influence(*given, groups, **settings)
    near(found, np.stack(right), 1e-8)
    near(group_influence(*given, masks, **settings, micro=9), np.stack(right), 1e-8)
    near(group_influence(*given, groups, **settings, solver="cg", tolerance=1e-8, micro=9), np.stack(right), 1e-6)
    traced = jax.jit(lambda masks: group_influence(*given, masks, **settings))(jnp.asarray(masks))
    near(traced, np.stack(right), 1e-8)


@pytest.mark.slow
def test_a_fisher_with_drawn_labels_is_one_matrix_for_all(double):
    given, theta, rows, others = regression()
    key = jax.random.key(4)
    settings = dict(curvature="fisher", l2=L2, damping=0.1)
    empirical = influence(*given, **settings)
    slopes = numpy_parts(*rows, theta)[0]
    asked = numpy_parts(np.ones(12), *others, theta)[0]
    near(empirical, slopes @ np.linalg.solve(slopes.T @ slopes / 40 + (L2 + 0.1) * np.eye(51), asked.T), 1e-8)
    drawn = influence(*given, **settings, key=key)
    assert np.abs(drawn - empirical).max() > 1e-3 * np.abs(empirical).max()
    near(influence(*given, **settings, key=key, solver="nystrom", tolerance=1e-9), drawn, 1e-6)
    group = [[1, 2, 30], np.arange(8, 20)]
    dense = group_influence(*given, group, **settings, key=key)
    near(dense, np.asarray(group_influence(*given, group, **settings, key=key, solver="cg", tolerance=1e-9)), 1e-6)


@pytest.mark.slow
def test_repeated_calls_compile_nothing_and_pieces_agree(double, monkeypatch):
    given, *_ = regression()
    first = [influence(*given, l2=L2, solver=s) for s in ("explicit", "cg")]
    own = self_influence(*given[:4], l2=L2)
    count = len(COMPILED)
    influence(*given, l2=2 * L2, damping=0.3)
    influence(*given, l2=L2, damping=0.3, solver="cg")
    assert len(COMPILED) == count
    monkeypatch.setattr(score_checks, "HELD", 5 * 51)
    for solver, before in zip(("explicit", "cg"), first):
        near(influence(*given, l2=L2, solver=solver), np.asarray(before), 1e-6)
    near(self_influence(*given[:4], l2=L2), np.asarray(own), 1e-10)


def test_settings_and_selections_are_known_by_what_they_are(double):
    given, theta, rows, others = regression()
    settings = dict(l2=L2, damping=0.5, solver="lissa")
    right = influence(*given, **settings, scale=5.0)
    near(influence(*given, **settings, scale=jnp.asarray(5.0)), np.asarray(right), 1e-12)
    near(influence(*given, **settings, scale=np.float64(5.0)), np.asarray(right), 1e-12)
    refuses(r"setting scale is an array \(2,\)", influence, *given, **settings, scale=jnp.ones(2))
    refuses("setting scale is traced", jax.jit(lambda scale: influence(*given, **settings, scale=scale)), 5.0)
    parts = numpy_parts(*rows, theta)
    asked = numpy_parts(np.ones(12), *others, theta)[0][:, CLASSES:]
    right = parts[0][:, CLASSES:] @ np.linalg.solve(parts[2][CLASSES:, CLASSES:] + DAMPING * np.eye(48), asked.T)
    settings, before = dict(l2=L2, damping=DAMPING), None
    for _ in range(3):
        near(influence(*given, **settings, select=lambda path: path == "head/kernel"), right, 1e-8)
        self_influence(*given[:4], **settings, select=lambda path: path == "head/kernel")
        assert before in (None, len(COMPILED))
        before = len(COMPILED)


@pytest.mark.parametrize("solver", toy.some(["explicit", "cg", "nystrom", "lanczos"], 2))
def test_matrix_products_are_in_full_precision(double, solver):
    given, *_ = regression()
    settings = dict(solver=solver, l2=L2, damping=DAMPING, options={}, relative_damping=None, select=None, key=None)
    plan, amounts = score_checks.prepared(*given[:4], curvature="hessian", quantity="loss", micro=64, **settings)
    variables, train, queries = given[2:]
    masks, rows = jnp.ones((2, 40)), jnp.zeros((2, 3), jnp.int32)
    for lowered in (
        score_programs.pair_scores.lower(plan, "queries", variables, train, queries, train, amounts),
        score_programs.self_scores.lower(plan, variables, train, queries, amounts),
        score_programs.group_scores.lower(plan, variables, train, masks, rows, queries, amounts),
    ):
        dots = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
        assert len(dots) > 3 and all("HIGHEST" in line for line in dots)
    found = jax.jit(operator(*given[:4])).lower(jnp.ones(51)).as_text()
    whole = jax.jit(lambda v: dense(*given[:2], v, given[3], curvature="ggn")).lower(variables).as_text()
    for text in (found, whole):
        dots = [line for line in text.splitlines() if "dot_general" in line]
        assert dots and all("HIGHEST" in line for line in dots)


def test_lanczos_refuses_what_its_rank_leaves_out(double):
    given, theta, rows, others = regression()
    right = exact(numpy_parts(*rows, theta), numpy_parts(np.ones(12), *others, theta)[0], np.ones(40))
    settings = dict(l2=L2, damping=DAMPING, solver="lanczos", steps=51)
    wrong = influence(*given, **settings, rank=4, tolerance=1.0)
    assert np.linalg.norm(wrong - right) > 0.2 * np.linalg.norm(right)
    refuses(r"lanczos did not converge .*relative residual up to .*raise rank", influence, *given, **settings, rank=4)
    near(influence(*given, **settings, rank=51), right, 1e-8)


@pytest.mark.slow
def test_members_side_by_side(double):
    given, theta, *_ = regression()
    model, task, _, train, queries = given
    members = jax.tree.map(lambda *x: jnp.stack(x), as_variables(theta), as_variables(0.5 * theta))
    for settings in (dict(), dict(solver="cg", tolerance=1e-9)):
        score = functools.partial(influence, model, task, train=train, queries=queries, l2=L2, **settings)
        found = jax.jit(jax.vmap(lambda one, score=score: score(variables=one)))(members)
        for number, scale in enumerate((1.0, 0.5)):
            right = influence(model, task, as_variables(scale * theta), train, queries, l2=L2)
            near(found[number], np.asarray(right), 1e-6)
    short = jax.vmap(lambda one: influence(model, task, one, train, queries, l2=L2, solver="cg", steps=2))(members)
    assert np.isnan(short).all()  # nothing can be raised there


def test_nothing_to_score_has_no_scores(double):
    given, *_ = regression()
    none = jax.tree.map(lambda x: x[:0], given[4])
    assert influence(*given[:4], none).shape == (40, 0)
    assert group_influence(*given[:4], none, [[1]]).shape == (1, 0)
    assert group_influence(*given, []).shape == (0, 12)
    assert group_influence(*given, [], curvature_term=False).shape == (0, 12)
    refuses("training batch has no rows", self_influence, *given[:3], none)


def test_examples_that_cannot_be_scored_are_named(double):
    (model, task, variables, train, queries), theta, *_ = regression()
    none, two = jax.tree.map(lambda x: x[:0], queries), jax.tree.map(lambda x: jnp.stack([x, x]), variables)
    negative, undefined = (train._replace(weight=train.weight.at[2].set(wrong)) for wrong in (-1.0, np.nan))
    bad = train._replace(inputs=train.inputs.at[jnp.array([3, 7])].set(jnp.nan))
    for told, solvers, *asked in (
        ("training batch has no rows", ["explicit"], variables, none, queries),
        ("of a population take one member's variables", ["explicit", "cg", "ekfac"], two, train, queries),
        ("weights that are negative", ["explicit", "ekfac"], variables, negative, queries),
        ("weights that are negative", ["explicit", "ekfac"], variables, undefined, queries),
        ("gradients of training rows 3, 7 are not finite", ["explicit", "cg"], variables, bad, queries),
        ("gradients of query rows 3, 7 are not finite", ["explicit", "cg"], variables, train, bad),
        ("parameters are not finite", ["explicit"], as_variables(theta * np.nan), train, queries),
    ):
        for solver in solvers:
            refuses(told, influence, model, task, *asked, solver=solver)


def test_settings_that_cannot_be_solved_are_named(double):
    given, *_ = regression()
    least, task, inputs, values = quadratic()
    few = least, task, {"params": {"w": jnp.zeros(5)}, "state": {}}, *[batch_of(inputs, values)] * 2
    told = "without group 1, the curvature is not positive definite"
    refuses(told, group_influence, *few, [[7], np.arange(27)], damping=0.0)
    for solver in ("cg", "nystrom", "lanczos", "lissa"):
        told, settings = f"damping and l2 are 0: {solver} cannot tell", dict(solver=solver, damping=0.0)
        refuses(told, influence, *given, **settings)
        refuses(told, group_influence, *given, [[1]], **settings)
    for settings, told in (
        (dict(damping=0.0), "least eigenvalue is .* with damping 0. Give damping="),
        (dict(solver="cg", steps=3), r"cg did not converge for 12 of 12 .* after 3 steps \(relative residual"),
        (dict(solver="lissa", scale=0.01), "lissa .* diverges"),
        (dict(solver="lu"), "unknown solver 'lu'"),
        (dict(curvature="flat"), "unknown curvature"),
        (dict(quantity="logits"), "unknown quantity"),
        (dict(solver="cg", rank=3), "unknown setting of cg 'rank': choose one of steps, tolerance"),
        (dict(damping=-1.0), "damping is -1"),
        (dict(relative_damping=0.0), "a relative one above 0"),
        (dict(l2=float("nan")), "weight decay"),
        (dict(limit=50), "51 parameters are over the limit of 50"),
    ):
        refuses(told, influence, *given, **settings)
    for groups, told in (
        ([[0, 40]], "group 0 is no list"),
        ([[1], [2, 2]], "group 1"),
        ([[0.5]], "group 0"),
        (np.full((2, 40), 0.5), "mask of groups"),
        (np.ones((2, 39)), "mask of groups"),
    ):
        refuses(told, group_influence, *given, groups)


def test_ekfac_refuses_what_it_cannot_do(double):
    given, *_ = regression()
    refuses("curvature_term=False", group_influence, *given, [[0, 2]], solver="ekfac")
    for settings, told in (
        (dict(curvature="nonsense"), "unknown curvature 'nonsense'"),
        (dict(rank=3), "unknown setting of ekfac 'rank': choose one of draws, fit, labels, variant"),
        (dict(quantity="logits"), "unknown quantity"),
        (dict(damping=-1.0), "damping is -1"),
        (dict(select=lambda path: path == "head/bias"), "whole layers"),
    ):
        refuses(told, influence, *given, solver="ekfac", **settings)
        refuses(told, self_influence, *given[:4], solver="ekfac", **settings)


def test_ekfac_takes_the_arguments_of_the_others(double):
    from unlearn_jax.influence.ekfac import ekfac_influence, ekfac_self_influence

    (model, task, variables, train, queries), _ = perceptron()
    given, how = (model, task, variables, train), dict(l2=L2, labels="exact")
    layers = sorted(variables["params"])
    first, second = (lambda path: path.startswith(layers[0])), (lambda name: name == layers[0])
    near(
        influence(*given, queries, solver="ekfac", select=first, damping=0.1, **how),
        np.asarray(ekfac_influence(*given, queries, select=second, damping=0.1, **how)),
        1e-12,
    )
    relative = dict(relative_damping=0.2, damping=0.0)
    near(
        influence(*given, queries, solver="ekfac", relative_damping=0.2, **how),
        np.asarray(ekfac_influence(*given, queries, **relative, **how)),
        1e-12,
    )
    own = self_influence(*given, solver="ekfac", relative_damping=0.2, **how)
    near(own, np.asarray(ekfac_self_influence(*given, **relative, **how)), 1e-12)
    pairs = np.asarray(influence(*given, queries, solver="ekfac", damping=0.1, **how))
    sums = group_influence(*given, queries, [[0, 2]], solver="ekfac", damping=0.1, curvature_term=False, **how)
    near(sums, pairs[[0]] + pairs[[2]], 1e-12)
    count = len(COMPILED)
    influence(*given, queries, solver="ekfac", relative_damping=0.3, **how)
    influence(*given, queries, solver="ekfac", select=lambda path: path.startswith(layers[0]), damping=0.1, **how)
    assert len(COMPILED) == count


SMALL = dict(damping=0.1, l2=0.01, curvature="ggn", solver="cg", micro=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnet", "decoder"])
def test_networks(name):
    rng = np.random.default_rng(0)
    if name == "decoder":
        tokens = rng.integers(1, 12, size=(10, 6)).astype(np.int32)
        live = (np.arange(6) >= 3) & (np.arange(6) < 5)
        rows = batch_of(tokens, np.where(live, np.roll(tokens, -1, axis=1), -1).astype(np.int32))
        model, task = build_model("decoder", 12, (6,), width=4, depth=1, heads=2), free_text()
    else:
        inputs, live = rng.normal(size=(10, 8, 8, 1)).astype(np.float32), np.array([True])
        rows = batch_of(inputs, (np.arange(10) % CLASSES).astype(np.int32))
        model, task = build_model("convnet", CLASSES, (8, 8, 1), widths=(4,)), TASK
    variables = jax.jit(model.init)(jax.random.key(0), rows.inputs)
    found = influence(model, task, variables, rows, jax.tree.map(lambda x: x[:4], rows), **SMALL)
    flat, at = flatten(variables), np.flatnonzero(live)
    whole = lambda w: jax.nn.log_softmax(model.apply(flat.rebuild(w), rows.inputs)[0].logits)
    logits = lambda w: whole(w).reshape(10, len(live), -1)[:, at]
    slopes = np.asarray(jax.jit(jax.jacfwd(logits))(flat.vector), float)
    p = np.exp(np.asarray(logits(flat.vector), float))
    ggn = np.einsum("ntvp,ntv,ntvq->pq", slopes, p, slopes) / (10 * len(at))  # slopes of log p are centred
    targets = np.asarray(rows.targets).reshape(10, -1)[:, at]
    losses = -np.take_along_axis(slopes, targets[..., None, None], axis=2)[:, :, 0].mean(axis=1)
    near(found, losses @ np.linalg.solve(ggn + 0.11 * np.eye(len(ggn)), losses[:4].T), 1e-3)
