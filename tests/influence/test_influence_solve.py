"""Curvature products and solvers against dense float64 matrices written another way."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from refusals import refuses

from unlearn_jax.errors import InputError
from unlearn_jax.influence import curvature as curvatures
from unlearn_jax.influence.curvature import block, dense, diagonal, operator, sampled_labels
from unlearn_jax.influence.iterations import products
from unlearn_jax.influence.per_example import batch_of, flatten
from unlearn_jax.influence.solvers import (
    SOLVERS,
    cg,
    damping_of,
    explicit,
    lanczos,
    largest_eigenvalue,
    lissa,
    mean_eigenvalue,
    nystrom_cg,
    settings_of,
    settled,
)
from unlearn_jax.models import build_model
from unlearn_jax.tasks import classification

TASK, ROWS, CLASSES, L2 = classification(), 9, 3, 0.07
PRODUCTS = {"hessian": curvatures.hessian_product, "ggn": curvatures.ggn_product, "fisher": curvatures.fisher_product}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def setting(rows=ROWS):
    rng = np.random.default_rng(1)
    model = build_model("mlp", CLASSES, (4,), widths=(5,), dtype="float64")
    weight = np.where(np.arange(rows) == 2, 0.0, rng.uniform(0.5, 1.0, rows))
    batch = batch_of(rng.normal(size=(rows, 4)), (np.arange(rows) % CLASSES).astype(np.int32), weight)
    variables = jax.tree.map(
        lambda x: x.astype(jnp.float64) + jnp.asarray(0.1 * rng.normal(size=x.shape)),
        jax.jit(model.init)(jax.random.key(0), batch.inputs),
    )
    return model, batch, variables


def truth(kind, model, batch, variables):
    """The dense curvature by `jax.hessian` of the whole loss, or from softmax's own Hessian in NumPy."""
    flat, weight, rows = flatten(variables), np.asarray(batch.weight), len(batch.weight)
    logits = lambda w: model.apply(flat.rebuild(w), batch.inputs)[0].logits
    losses = lambda w: -jnp.take_along_axis(jax.nn.log_softmax(logits(w)), batch.targets[:, None], axis=1)[:, 0]
    unit = np.eye(len(flat.vector))
    if kind == "hessian":
        return np.asarray(jax.jit(jax.hessian(lambda w: losses(w) @ weight / rows))(flat.vector)) + L2 * unit
    if kind == "fisher":
        slopes = np.asarray(jax.jit(jax.jacfwd(losses))(flat.vector))
        return slopes.T @ (weight[:, None] * slopes) / rows + L2 * unit
    slopes, p = np.asarray(jax.jit(jax.jacfwd(logits))(flat.vector)), np.asarray(jax.nn.softmax(logits(flat.vector)))
    bent = np.stack([np.diag(row) - np.outer(row, row) for row in p]) * weight[:, None, None]
    return np.einsum("nkp,nkl,nlq->pq", slopes, bent, slopes) / rows + L2 * unit


@pytest.mark.parametrize("kind", PRODUCTS)
def test_curvatures_are_the_dense_matrix(kind):
    model, batch, variables = setting()
    given, matrix = (model, TASK, variables, batch), truth(kind, model, batch, variables)
    v = np.random.default_rng(2).normal(size=len(matrix))
    for micro in (128, 5):  # 5 does not divide 9
        found = jax.jit(lambda v, micro=micro: PRODUCTS[kind](*given, v, l2=L2, micro=micro))(jnp.asarray(v))
        np.testing.assert_allclose(found, matrix @ v, rtol=1e-10, atol=1e-13)
        found = jax.jit(lambda micro=micro: dense(*given, curvature=kind, l2=L2, micro=micro))()
        np.testing.assert_allclose(found, matrix, rtol=1e-10, atol=1e-13)
    found = jax.jit(lambda: diagonal(*given, curvature=kind, l2=L2, micro=5))()
    np.testing.assert_allclose(found, np.diag(matrix), rtol=1e-10)
    chosen = np.asarray(jax.tree.leaves(jax.tree.map(np.size, variables["params"])))  # dense0 bias, kernel, head ...
    part = jax.jit(lambda: block(*given, curvature=kind, l2=L2, select=lambda path: path.startswith("head")))()
    np.testing.assert_allclose(part, matrix[chosen[:2].sum() :, chosen[:2].sum() :], rtol=1e-10, atol=1e-13)


def test_ggn_of_many_logits_goes_by_products(monkeypatch):
    model, batch, variables = setting()
    monkeypatch.setattr(curvatures, "FEW_LOGITS", 2)
    found = jax.jit(lambda: dense(model, TASK, variables, batch, curvature="ggn", l2=L2))()
    np.testing.assert_allclose(found, truth("ggn", model, batch, variables), rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_a_linear_model_has_one_curvature():
    _, batch, _ = setting()
    model = build_model("linear", CLASSES, (4,), dtype="float64")
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), jax.jit(model.init)(jax.random.key(3), batch.inputs))
    ggn, hessian = (dense(model, TASK, variables, batch, curvature=kind) for kind in ("ggn", "hessian"))
    np.testing.assert_allclose(ggn, hessian, rtol=1e-12, atol=1e-15)
    model, batch, variables = setting()  # of a perceptron it has two
    assert np.abs(truth("ggn", model, batch, variables) - truth("hessian", model, batch, variables)).max() > 1e-2


@pytest.mark.slow
def test_sampled_labels_follow_the_model():
    model, batch, variables = setting()
    many = batch._replace(
        inputs=jnp.repeat(batch.inputs[:1], 3000, axis=0),
        targets=jnp.zeros(3000, jnp.int32),
        weight=jnp.ones(3000),
        index=jnp.arange(3000, dtype=jnp.int32),
    )
    drawn = sampled_labels(model, variables, many, jax.random.key(5)).targets
    assert drawn.dtype == jnp.int32
    p = np.asarray(jax.nn.softmax(model.apply(variables, batch.inputs[:1])[0].logits[0]))
    share = np.bincount(np.asarray(drawn), minlength=CLASSES) / 3000
    assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / 3000)).all() and p.max() - p.min() > 0.1
    key = jax.random.key(6)
    labelled = sampled_labels(model, variables, batch, key)
    assert (labelled.targets != batch.targets).any()
    for micro in (128, 5):
        found = jax.jit(
            lambda m=micro: dense(model, TASK, variables, batch, curvature="fisher", key=key, l2=L2, micro=m)
        )()
        np.testing.assert_allclose(found, truth("fisher", model, labelled, variables), rtol=1e-10, atol=1e-13)
    v = jnp.ones(len(found))
    np.testing.assert_allclose(
        curvatures.fisher_product(model, TASK, variables, batch, v, key=key, l2=L2, micro=5), found @ v, rtol=1e-10
    )
    refuses("classes only", sampled_labels, model, variables, batch._replace(targets=jnp.ones((ROWS, 2))), key)


@pytest.mark.slow
def test_products_of_members_side_by_side():
    model, batch, variables = setting()
    members = jax.tree.map(lambda x: jnp.stack([x, 1.5 * x]), variables)
    v = jnp.linspace(-1.0, 1.0, len(flatten(variables).vector))
    found = jax.jit(jax.vmap(lambda one: operator(model, TASK, one, batch, micro=5)(v)))(members)
    for number in range(2):
        one = jax.tree.map(lambda x, number=number: x[number], members)
        np.testing.assert_allclose(found[number], operator(model, TASK, one, batch)(v), rtol=1e-10, atol=1e-14)


def test_curvature_refuses():
    model, batch, variables = setting()
    given = model, TASK, variables
    refuses("43 parameters are over the limit of 42", dense, *given, batch, limit=42)
    refuses("over the limit", diagonal, *given, batch, curvature="hessian", limit=42)
    assert diagonal(*given, batch, curvature="ggn", limit=42).shape == (43,)
    refuses("no rows", dense, *given, jax.tree.map(lambda x: x[:0], batch))
    refuses("unknown curvature 'gauss'", operator, *given, batch, curvature="gauss")
    refuses("needs select", block, *given, batch, select=None)


def spectrum(values, sides=3, seed=0):
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return vectors @ np.diag(values) @ vectors.T, vectors, rng.normal(size=(len(values), sides))


SETTINGS = {  # and how near each must come
    "explicit": ({}, 1e-12),
    "cg": (dict(tolerance=1e-11), 1e-9),
    "nystrom": (dict(tolerance=1e-11, rank=5), 1e-9),
    "lanczos": (dict(rank=24), 1e-10),
    "lissa": (dict(tolerance=1e-9), 1e-7),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_solve(name):
    matrix, _, b = spectrum(np.r_[np.ones(8), np.geomspace(0.05, 20, 16)])  # one eigenvalue eight times
    b[:, 1] = 0
    settings, error = SETTINGS[name]
    found = SOLVERS[name](lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), 0.01, **settings)
    exact = np.linalg.solve(matrix + 0.01 * np.eye(24), b)
    np.testing.assert_allclose(found.x, exact, atol=error * np.abs(exact).max(), rtol=0)
    residual = np.linalg.norm(b - (matrix + 0.01 * np.eye(24)) @ np.asarray(found.x), axis=0)
    norm = np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(found.residual * norm, residual, atol=1e-13)
    assert found.converged.all() and found.residual[1] == 0 and (found.x[:, 1] == 0).all() and found.least > 0
    assert settled(name, found) is found


@pytest.mark.parametrize("name", toy.some(SOLVERS, 2))
def test_solvers_tell_an_indefinite_curvature(name):
    matrix, _, b = spectrum(np.r_[-0.5, np.linspace(1, 4, 11)])
    solved = lambda b: settled(name, SOLVERS[name](lambda v: jnp.asarray(matrix) @ v, b, 0.1)).x
    refuses(r"(curvature|direction)", solved, jnp.asarray(b))
    assert np.isnan(jax.jit(solved)(jnp.asarray(b))).any()


@pytest.mark.parametrize(("values", "damping"), [([-0.5123, 1, 2, 3], 0.1), ([0, 1, 2, 3], 0.0), ([0, 0, 0, 0], 0.0)])
def test_explicit_names_the_least_eigenvalue_and_a_damping_that_does(values, damping):
    matrix, _, b = spectrum(np.asarray(values, float))
    with pytest.raises(InputError) as told:
        explicit(jnp.asarray(matrix), jnp.asarray(b), damping)
    least, enough = (float(x) for x in re.search(r"eigenvalue is (\S+) .*damping=(\S+) or", str(told.value)).groups())
    assert least == pytest.approx(min(values) + damping, abs=1e-3)
    assert ("ggn" in str(told.value)) == (min(values) < 0)
    assert explicit(jnp.asarray(matrix), jnp.asarray(b), enough).converged.all()


@pytest.mark.slow
def test_short_of_steps_is_said_with_numbers():
    matrix, _, b = spectrum(np.geomspace(1e-3, 10, 30))
    product = lambda v: jnp.asarray(matrix) @ v
    found = cg(product, jnp.asarray(b), steps=5)
    assert not found.converged.any() and found.steps == 5 and (found.residual > 1e-2).all()
    refuses(r"cg did not converge for 3 of 3 .* after 5 steps .*raise steps", settled, "cg", found)
    assert np.isnan(jax.jit(lambda b: settled("cg", cg(product, b, steps=5)).x)(jnp.asarray(b))).all()
    refuses("lissa did not converge", lambda: settled("lissa", lissa(product, jnp.asarray(b), steps=20)))
    found = lanczos(product, jnp.asarray(b), rank=5, steps=5, tolerance=1e-6)
    refuses("lanczos did not converge .* raise rank, steps or damping", settled, "lanczos", found)


def test_lissa_diverges_with_too_small_a_scale():
    matrix, _, b = spectrum(np.linspace(1, 10, 12))
    found = lissa(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), scale=4.0)
    assert not found.converged.any() and found.steps < 100 and np.isfinite(found.x).all()
    refuses("lissa .* diverges; give a larger scale", settled, "lissa", found)
    assert lissa(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), scale=5.2).converged.all()


def test_bad_settings_and_numbers_that_are_not_finite():
    matrix, _, b = spectrum(np.linspace(1, 10, 6))
    broken = b.copy()
    broken[0, 1] = np.nan
    for name, solver in SOLVERS.items():
        with pytest.raises(InputError, match="not finite"):
            settled(name, solver(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(broken)))
        with pytest.raises(InputError, match="not finite"):
            settled(name, solver(lambda v: v * jnp.nan, jnp.asarray(b)))
    b = jnp.ones((3, 2))
    for bad in (jnp.ones(3), jnp.ones((3, 0)), jnp.ones((0, 2))):
        refuses("right-hand sides", cg, lambda v: v, bad)
    refuses("tolerance is 0", cg, lambda v: v, b, tolerance=0)
    refuses("scale is -1", lissa, lambda v: v, b, scale=-1)
    refuses("rank 3 is above the 2 steps", lanczos, lambda v: v, b, rank=3, steps=2)
    assert settings_of("lissa") == {"tolerance": 1e-2, "steps": 10_000, "scale": None}
    refuses("unknown solver 'lu': choose one of cg, explicit", settings_of, "lu")


def test_lanczos_keeps_the_largest_eigenvalues():
    values = np.r_[np.linspace(5, 9, 5), np.linspace(0, 0.5, 35)]
    matrix, vectors, b = spectrum(values)
    found = lanczos(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), 0.1, rank=5, steps=25, tolerance=1.0)
    kept = vectors[:, :5]
    exact = kept @ ((kept.T @ b) / (values[:5] + 0.1)[:, None])
    np.testing.assert_allclose(found.x, exact, atol=1e-8)
    assert found.converged.all() and (found.residual > 0.5).all()  # what the low rank leaves out is told
    assert float(found.least) == pytest.approx(5.1)
    strict = lanczos(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), 0.1, rank=5, steps=25)
    assert not strict.converged.any()  # and by itself is no answer
    inside = kept @ np.random.default_rng(1).normal(size=(5, 2))
    both = jnp.asarray(np.concatenate([inside, b[:, :1]], axis=1))
    some = lanczos(lambda v: jnp.asarray(matrix) @ v, both, 0.1, rank=5, steps=25)
    assert some.converged.tolist() == [True, True, False]


@pytest.mark.slow
def test_lanczos_goes_on_where_a_subspace_is_complete():
    low = np.outer(np.ones(10), np.ones(10)) + 0.3 * np.eye(10)
    b = np.random.default_rng(0).normal(size=(10, 2))
    found = lanczos(lambda v: jnp.asarray(low) @ v, jnp.asarray(b), rank=10)
    np.testing.assert_allclose(found.x, np.linalg.solve(low, b), atol=1e-10)
    nothing = lanczos(lambda v: 0 * v, jnp.asarray(b), 0.5, rank=10)
    np.testing.assert_allclose(nothing.x, b / 0.5, atol=1e-10)


@pytest.mark.slow
def test_memory_does_not_grow_with_right_hand_sides():
    model, batch, variables = setting()
    product = operator(model, TASK, variables, batch, curvature="hessian", l2=L2)
    matrix = np.asarray(dense(model, TASK, variables, batch, l2=L2))
    for sides in (16, 33):  # the last block is filled up
        x = np.random.default_rng(0).normal(size=(43, sides))
        np.testing.assert_allclose(products(product, jnp.asarray(x)), matrix @ x, rtol=1e-9, atol=1e-12)
    model = build_model("mlp", CLASSES, (4,), widths=(300,), dtype="float64")
    rows = jax.tree.map(lambda x: jnp.repeat(x, 14, axis=0), batch)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), jax.jit(model.init)(jax.random.key(0), rows.inputs))
    product, size = operator(model, TASK, variables, rows), flatten(variables).vector.shape[0]

    def temporary(sides, of):
        return jax.jit(of).lower(jnp.ones((size, sides))).compile().memory_analysis().temp_size_in_bytes

    most = 16 * 128 * 300 * 8  # bytes of one activation of 16 sides side by side
    for of in (lambda b: cg(product, b).x, lambda b: nystrom_cg(product, b, rank=200).x):
        assert temporary(200, of) < 12 * most + 12 * 200 * size * 8
    probes = jax.jit(lambda like: mean_eigenvalue(product, like)).lower(jnp.ones(size)).compile()
    assert probes.memory_analysis().temp_size_in_bytes < 12 * most


@pytest.mark.slow
def test_a_nystrom_preconditioner_saves_steps():
    matrix, _, b = spectrum(1000.0 * np.arange(1, 101.0) ** -3)
    given = lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), 1e-2
    plain, helped = cg(*given, tolerance=1e-8), nystrom_cg(*given, rank=60, tolerance=1e-8)
    assert plain.converged.all() and helped.converged.all() and helped.steps * 5 < plain.steps
    np.testing.assert_allclose(helped.x, plain.x, atol=1e-5 * np.abs(plain.x).max())


def test_damping_is_a_share_of_the_mean_eigenvalue():
    matrix, _, _ = spectrum(np.linspace(0, 2, 40))
    product = lambda v: jnp.asarray(matrix) @ v
    assert float(damping_of(product, 0.1, jnp.zeros(40))) == pytest.approx(0.1, rel=1e-12)
    guess = [float(mean_eigenvalue(product, jnp.zeros(40), probes=16, key=jax.random.key(i))) for i in range(20)]
    off = np.linalg.norm(matrix - np.diag(np.diag(matrix)))  # sd of one probe: sqrt(2) off / 40
    assert 0 < np.std(guess) < 2 * np.sqrt(2 / 16) * off / 40
    assert np.mean(guess) == pytest.approx(1, abs=4 * np.sqrt(2 / 320) * off / 40)
    assert float(largest_eigenvalue(product, jnp.zeros(40), steps=400)) == pytest.approx(2, rel=1e-3)
    assert float(largest_eigenvalue(lambda v: -product(v), jnp.zeros(40), steps=400)) == pytest.approx(2, rel=1e-3)
    refuses("above 0", damping_of, product, 0.0, jnp.zeros(40))
    refuses("absolute damping", damping_of, lambda v: -v, 0.1, jnp.zeros(40))
