"""Gradient similarity, TracIn, projections, TRAK and representer points against dense NumPy in double precision."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx
from refusals import refuses
from scipy.stats import spearmanr

from unlearn_jax.influence import pieces, projection
from unlearn_jax.influence.gram import cosine, gradient_norms, gram
from unlearn_jax.influence.per_example import batch_of, example_gradients, values
from unlearn_jax.influence.projection import draw, project, project_factors, projected_gradients, side_matrices, sides
from unlearn_jax.influence.representer import representer, representer_logits, representer_values
from unlearn_jax.influence.taps import Factors, layer_factors, layer_gradients
from unlearn_jax.influence.tracin import tracin, tracin_self
from unlearn_jax.influence.trak import trak
from unlearn_jax.models import build_model, from_linen, from_nnx
from unlearn_jax.models.layers import head
from unlearn_jax.tasks import classification, free_text
from unlearn_jax.types import NOT_ANSWER

TASK, CLASSES, VOCAB = classification(), 3, 9


class _Odd(nn.Module):
    """A layer used twice and a grouped convolution, which no factors cover."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), feature_group_count=2, name="grouped")(x)
        again = nn.Dense(4, name="again")
        features = again(nn.tanh(again(x))).reshape(len(x), -1)
        return head(CLASSES)(features), features


class _Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.head = nnx.Linear(32, 5, rngs=rngs), nnx.Linear(5, CLASSES, rngs=rngs)

    def __call__(self, x):
        features = nnx.tanh(self.first(x.reshape(len(x), -1)))
        return self.head(features), features


MODELS = {
    "mlp": lambda: build_model("mlp", CLASSES, (4, 4, 2), widths=(6,)),
    "convnet": lambda: build_model("convnet", CLASSES, (4, 4, 2), widths=(3,)),
    "odd": lambda: from_linen(_Odd()),
    "nnx": lambda: from_nnx(_Nnx),
    "decoder": lambda: build_model("decoder", VOCAB, (6,), width=8, depth=1, heads=2),
}


@functools.cache
def case(name):
    """Model, task, variables, 7 train rows and 5 queries."""
    rng, model = np.random.default_rng(0), MODELS[name]()
    if name == "decoder":
        x = rng.integers(1, VOCAB, (12, 6)).astype(np.int32)
        y = np.where(np.arange(6)[None] >= 3, rng.integers(1, VOCAB, (12, 6)), NOT_ANSWER).astype(np.int32)
    else:
        x, y = rng.normal(size=(12, 4, 4, 2)).astype(np.float32), rng.integers(0, CLASSES, 12).astype(np.int32)
    variables = jax.jit(model.init)(jax.random.key(1), x[:1])
    bump = lambda a: a + 0.1 * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)
    variables = variables | {"params": jax.tree.map(bump, variables["params"])}
    task = free_text() if name == "decoder" else TASK
    return model, task, variables, batch_of(x[:7], y[:7]), batch_of(x[7:], y[7:])


@functools.cache
def dense(name, select=None):
    """Gradients of train's losses, of the queries' losses and of both margins, as rows."""
    model, task, variables, train, queries = case(name)
    of = lambda v, b, q: example_gradients(model, task, v, b, quantity=q, select=select)
    every = jax.jit(lambda v: [of(v, b, q) for b in (train, queries) for q in ("loss", "margin")])(variables)
    return [np.asarray(x, np.float64) for x in every]


def close(a, b, tolerance=2e-5):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-300)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", toy.some(MODELS, 2))
def test_gram_is_the_inner_product_of_whole_gradients(name):
    loss, _, loss_q, margin_q = dense(name)
    close(gram(*case(name)), loss @ loss_q.T)
    if name == "mlp":
        close(gram(*case(name), quantity="margin"), -loss @ margin_q.T)


@pytest.mark.parametrize("name", toy.some(["convnet", "odd"], 1))
def test_cosines_and_norms(name):
    loss, _, loss_q, _ = dense(name)
    norms = np.linalg.norm(loss, axis=1)
    close(gradient_norms(*case(name)[:4]), norms)
    truth = loss @ loss_q.T / norms[:, None] / np.linalg.norm(loss_q, axis=1)[None]
    close(cosine(*case(name)), truth)
    if name == "convnet":
        close(gradient_norms(*case(name)[:4], quantity="margin"), np.linalg.norm(dense(name)[1], axis=1))


def test_cosine_of_a_gradient_of_nothing_is_nothing():
    model, task, variables, train, queries = case("decoder")
    silent = train._replace(targets=train.targets.at[2].set(NOT_ANSWER))
    found = np.asarray(cosine(model, task, variables, silent, queries))
    assert np.array_equal(np.flatnonzero((found == 0).all(axis=1)), [2])


def head_only(path):
    return path.startswith("head")


def kernels_only(path):
    return path.endswith("kernel")


@pytest.mark.parametrize("select", [head_only, kernels_only])
def test_gram_of_selected_parameters(select):
    loss, _, loss_q, _ = dense("mlp", select)
    close(gram(*case("mlp"), select=select), loss @ loss_q.T)
    model, _, variables, train, _ = case("mlp")
    layout = pieces.layout_of(model, variables, train, select)
    assert layout == (("head",), ()) if select is head_only else layout.layers == ()


def test_gram_of_tapped_layers_alone():
    tapped = lambda path: path.split("/")[0] == "head" or "/conv/" in path
    loss, _, loss_q, _ = dense("convnet", tapped)
    close(gram(*case("convnet"), exact=False), loss @ loss_q.T)
    refuses("use exact=True", lambda: gram(*case("nnx"), exact=False))


@pytest.mark.parametrize("name", toy.some(["mlp", "nnx"], 1))
def test_blocks_make_no_difference(name):
    loss, _, loss_q, _ = dense(name)
    for block in (1, 3):
        close(gram(*case(name), block=block, micro=2), loss @ loss_q.T)
    close(gradient_norms(*case(name)[:4], block=3), np.linalg.norm(loss, axis=1))


def test_a_block_follows_from_the_room_that_it_takes(monkeypatch):
    model, task, variables, train, queries = case("convnet")
    layout = pieces.layout_of(model, variables, train)
    of = functools.partial(pieces.pieces_of, model, task, variables, layout=layout, quantity="loss", micro=128)
    held = 6 + 16 * (18 + 3) + (4 + 3) + 18 * 3  # norm; factors of convolution and head; the convolution's gradient
    monkeypatch.setattr(pieces, "ROOM", 3 * held + 1)
    assert pieces.block_size(of, train, None) == 3
    monkeypatch.setattr(pieces, "ROOM", 1)
    assert pieces.block_size(of, train, None) == 1


def test_no_gradients_of_dense_layers_are_made():
    """Nothing in the program has n x P numbers; the gradients' own program, for comparison, has."""
    model, n, width = build_model("mlp", CLASSES, (40,), widths=(50,)), 20, 40 * 50
    batch = batch_of(np.ones((n, 40), np.float32), np.zeros(n, np.int32))
    variables = jax.jit(model.init)(jax.random.key(0), batch.inputs)

    def largest(of):
        def walk(jaxpr):
            for equation in jaxpr.eqns:
                yield from (v.aval.size for v in equation.outvars)
                for value in jax.tree.leaves(
                    equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
                ):
                    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                        yield from walk(getattr(value, "jaxpr", value))

        return max(walk(jax.make_jaxpr(of)(variables).jaxpr))

    assert largest(lambda v: gram(model, TASK, v, batch, batch)) < 2 * width
    assert largest(lambda v: gradient_norms(model, TASK, v, batch)) < 2 * width
    assert largest(lambda v: trak(model, TASK, v, batch, batch)) < 2 * width
    key = jax.random.key(0)
    kinds = dict(dim=16, key=key, kind="factored", micro=n)
    assert largest(lambda v: projected_gradients(model, TASK, v, batch, **kinds)) < 2 * width
    assert largest(lambda v: example_gradients(model, TASK, v, batch)) >= n * width


@pytest.mark.slow
def test_members_by_vmap_under_jit():
    model, task, variables, train, queries = case("mlp")
    two = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), variables)
    half = jax.tree.map(lambda x: 0.5 * x, variables)
    key = jax.random.key(3)
    scorers = [
        lambda v: gram(model, task, v, train, queries),
        lambda v: tracin(model, task, [v, v], train, queries, rates=jnp.array([0.1, 0.2])),
        lambda v: trak(model, task, v, train, queries),
        lambda v: trak(model, task, v, train, queries, dim=5, key=key),
        lambda v: representer(model, task, v, train, queries, l2=0.1),
    ]
    found = jax.jit(jax.vmap(lambda v: [of(v) for of in scorers]))(two)
    for of, scores in zip(scorers, found):
        close(scores[1], of(half), 1e-4)


def test_weights_of_queries_play_no_part_in_similarity():
    model, task, variables, train, queries = case("mlp")
    light = queries._replace(weight=jnp.zeros(5))
    assert np.array_equal(gram(model, task, variables, train, light), gram(*case("mlp")))


def regression(n=40, width=4, classes=CLASSES, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, width)), rng.normal(size=(width, classes))
    y = (spread * x @ w + rng.gumbel(size=(n, classes))).argmax(axis=1)
    return x, y.astype(np.int32)


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def fit(x, y, classes, l2, weight=None, start=None):
    """Newton on (1/n) sum w loss + l2/2 |W|^2 with the bias as a constant feature; (D + 1, K) and the Hessian."""
    f = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weight = np.ones(len(x)) if weight is None else weight
    w = np.zeros((f.shape[1], classes)) if start is None else start
    for _ in range(30):
        p = softmax(f @ w)
        slope = np.einsum("n,ni,nk->ik", weight / len(x), f, p - np.eye(classes)[y]) + l2 * w
        bend = np.einsum("nk,kl->nkl", p, np.eye(classes)) - p[:, :, None] * p[:, None, :]
        hessian = np.einsum("n,ni,nj,nkl->ikjl", weight / len(x), f, f, bend).reshape(w.size, w.size)
        hessian += l2 * np.eye(w.size)
        step = np.linalg.solve(hessian, slope.reshape(-1)).reshape(w.shape)
        w = w - step
        if np.abs(step).max() < 1e-13:
            break
    return w, hessian


def variables_of(w):
    return {"params": {"head": {"bias": jnp.asarray(w[-1]), "kernel": jnp.asarray(w[:-1])}}, "state": {}}


def linear(width=4, classes=CLASSES):
    return build_model("linear", classes, (width,), dtype="float64")


def margins(w, x, y):
    z = np.concatenate([x, np.ones((len(x), 1))], axis=1) @ w
    own = z[np.arange(len(y)), y]
    others = np.where(np.eye(z.shape[1], dtype=bool)[y], -np.inf, z)
    return own - np.log(np.exp(others).sum(axis=1))


def losses(w, x, y):
    return np.log1p(np.exp(-margins(w, x, y)))


def margin_rows(w, x, y):
    """Gradients of margins (n, (D + 1) K) by hand, weights in the order of `fit`."""
    f = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    p, own = softmax(f @ w), np.eye(w.shape[1])[y]
    others = p * (1 - own) / (1 - (p * own).sum(axis=1, keepdims=True))
    return (f[:, :, None] * (own - others)[:, None, :]).reshape(len(x), -1)


@pytest.mark.parametrize("inputs", ("float64", "float32"))  # of a data set that was made for other models
def test_gram_in_double_precision(double, inputs):
    x, y = regression()
    x = x.astype(inputs)
    w, _ = fit(x, y, CLASSES, 0.1)
    p = softmax(np.concatenate([x, np.ones((len(x), 1))], axis=1) @ w)
    s = p - np.eye(CLASSES)[y]
    found = gram(linear(), TASK, variables_of(w), batch_of(x, y), batch_of(x[:9], y[:9]))
    assert found.dtype == jnp.float64
    x = x.astype(np.float64)
    close(found, (x @ x[:9].T + 1) * (s @ s[:9].T), 1e-13)


@functools.cache
def descent(steps=6, rate=1e-3, momentum=0.0):
    x, y = regression(n=30)
    f, path = np.concatenate([x, np.ones((30, 1))], axis=1), [np.random.default_rng(1).normal(size=(5, CLASSES))]
    for _ in range(steps):
        path.append(path[-1] - rate / 30 * f.T @ (softmax(f @ path[-1]) - np.eye(CLASSES)[y]))
    return x, y, path


def test_tracin_shares_out_the_fall_of_the_loss(double):
    errors = []
    for rate in (1e-2, 1e-3):
        x, y, path = descent(6, rate)
        queries = batch_of(x[:8] + 0.5, y[:8])
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *map(variables_of, path[:-1]))
        scores = np.asarray(tracin(linear(), TASK, stacked, batch_of(x, y), queries, rates=np.full(6, rate)))
        fell = losses(path[0], x[:8] + 0.5, y[:8]) - losses(path[-1], x[:8] + 0.5, y[:8])
        errors.append(np.abs(scores.sum(axis=0) / 30 - fell).max() / np.abs(fell).max())
        margin = tracin(linear(), TASK, stacked, batch_of(x, y), queries, rates=np.full(6, rate), quantity="margin")
        rose = margins(path[-1], x[:8] + 0.5, y[:8]) - margins(path[0], x[:8] + 0.5, y[:8])
        assert np.abs(np.asarray(margin).sum(axis=0) / 30 - rose).max() < 20 * rate * np.abs(rose).max()
    assert errors[1] < 5e-3
    assert errors[1] < 0.2 * errors[0]


def test_tracin_of_a_list_and_of_itself(double):
    x, y, path = descent()
    train, listed = batch_of(x, y), [variables_of(w) for w in path[:3]]
    stacked, rates = jax.tree.map(lambda *a: jnp.stack(a), *listed), np.array([0.1, 0.0, 0.3])
    scores = tracin(linear(), TASK, listed, train, train, rates=rates)
    close(tracin(linear(), TASK, stacked | {"shared": {}}, train, train, rates=rates), scores, 1e-14)
    close(tracin_self(linear(), TASK, stacked, train, rates=rates), np.diagonal(scores), 1e-13)
    parts = [rate * np.asarray(gram(linear(), TASK, v, train, train)) for rate, v in zip(rates, listed)]
    close(scores, sum(parts), 1e-14)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "factored"])
def test_projected_inner_products_are_unbiased(kind):
    rng = np.random.default_rng(0)
    factors = Factors(*(jnp.asarray(rng.normal(size=(2, 2, s)).astype(np.float32)) for s in (9, 7)))
    g = layer_gradients(factors).reshape(2, -1)
    truth = np.asarray(g @ g.T)
    if kind == "factored":
        one = lambda key: project_factors(factors, 3, 4, key)
    else:
        one = lambda key: project(g, 12, key, kind=kind)
    found = np.asarray(
        jax.jit(jax.vmap(lambda key: (lambda s: s @ s.T)(one(key))))(jax.random.split(jax.random.key(0), 2000))
    )
    error = found.std(axis=0) / np.sqrt(2000)
    assert (np.abs(found.mean(axis=0) - truth) < 4 * error + 1e-6 * truth.max()).all()
    if kind != "factored":
        bound = np.sqrt(2 / 12) * np.sqrt(np.outer(np.diagonal(truth), np.diagonal(truth)))
        assert (found.std(axis=0) < 1.05 * bound).all()
        assert (found.std(axis=0)[0, 1] > 0.3 * bound[0, 1]).all()


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_blocks_are_drawn_from_the_key(kind, monkeypatch):
    monkeypatch.setattr(projection, "DRAWN", 7 * 6)
    key, g = jax.random.key(5), jnp.asarray(np.random.default_rng(0).normal(size=(3, 31)).astype(np.float32))
    lengths = [7, 7, 7, 7, 3]
    matrix = np.concatenate([draw(jax.random.fold_in(key, b), rows, 6, kind) for b, rows in enumerate(lengths)])
    found = project(g, 6, key, kind=kind)
    close(found, np.asarray(g) @ matrix)
    close(project(g[1:2], 6, key, kind=kind), found[1:2], 1e-6)
    assert np.abs(np.asarray(project(g, 6, jax.random.key(6), kind=kind)) - found).max() > 0.1
    assert project(g[:0], 6, key, kind=kind).shape == (0, 6)


def test_factored_is_a_kronecker_product(double):
    rng, key = np.random.default_rng(0), jax.random.key(2)
    factors = Factors(jnp.asarray(rng.normal(size=(5, 3, 9))), jnp.asarray(rng.normal(size=(5, 3, 7))))
    rows = np.einsum("nti,nto->nio", factors.inputs, factors.slopes).reshape(5, -1)
    for dims in ((4, 3), (9, 3), (4, 100)):
        left, right = side_matrices(key, (9, 7), dims, dtype=jnp.float64)
        left, right = (np.eye(s) if m is None else np.asarray(m) for m, s in ((left, 9), (right, 7)))
        close(project_factors(factors, *dims, key), rows @ np.kron(left, right), 1e-13)
    assert np.abs(left).max() < 1


@pytest.mark.parametrize("dim", [1, 2, 7, 9, 64, 100, 10_000])
def test_columns_shared_out_to_two_sides(dim):
    for shape in ((9, 7), (100, 3), (2, 50), (1, 1)):
        first, second = sides(dim, shape)
        assert 1 <= first <= shape[0] and 1 <= second <= shape[1] and first * second <= dim
        assert (first, second) == shape or (first + 1) * (second + 1) > dim or dim < 4


@pytest.mark.parametrize("name", toy.some(["odd", "mlp"], 1))
def test_projected_gradients(name):
    model, task, variables, train, queries = case(name)
    loss, _, loss_q, margin_q = dense(name)
    key = jax.random.key(4)
    found = projected_gradients(model, task, variables, train, dim=6, key=key, micro=3)
    close(found, project(jnp.asarray(loss, jnp.float32), 6, key), 1e-4)
    whole = dict(dim=10_000, key=key, kind="factored")  # nothing is projected, so nothing is lost
    margins = projected_gradients(model, task, variables, queries, quantity="margin", **whole)
    rows = projected_gradients(model, task, variables, train, micro=2, **whole)
    assert rows.shape[1] == loss.shape[1]
    close(rows @ margins.T, loss @ margin_q.T)


def test_projected_gradients_by_layers():
    model, task, variables, train, _ = case("convnet")
    key, kinds = jax.random.key(4), dict(dim=12, kind="factored")
    rows = projected_gradients(model, task, variables, train, key=key, **kinds)
    factors = jax.jit(lambda v: layer_factors(model, task, v, train))(variables)
    names = sorted(factors)
    assert rows.shape == (7, 12 + 12 + 6)  # a layer each, and the norm's 6, which need no projection
    assert names == ["block0/conv", "head"]
    close(rows[:, :12], project_factors(factors["block0/conv"], 4, 3, jax.random.fold_in(key, 0)), 1e-4)
    close(rows[:, 12:24], project_factors(factors["head"], 4, 3, jax.random.fold_in(key, 1)), 1e-4)
    many = [projected_gradients(model, task, variables, train, key=jax.random.key(k), **kinds) for k in range(30)]
    truth = dense("convnet")[0] @ dense("convnet")[0].T
    found = np.stack([np.asarray(x @ x.T) for x in many])
    assert (np.abs(found.mean(axis=0) - truth) < 4.5 * found.std(axis=0) / np.sqrt(30)).all()


def leave_one_out(x, y, classes, l2, queries):
    """(n, q) fall of the queries' margins without a row, the normaliser kept, by Newton to the optimum."""
    w, _ = fit(x, y, classes, l2)
    fell = []
    for i in range(len(x)):
        weight = np.ones(len(x))
        weight[i] = 0
        fell.append(margins(w, *queries) - margins(fit(x, y, classes, l2, weight, w)[0], *queries))
    return w, np.stack(fell)


def test_newton_curvature_is_the_influence_function_of_two_classes(double):
    x, y = regression(n=120, classes=2)
    queries = x[:10] + 0.3, y[:10]
    l2 = 0.02
    w, hessian = fit(x, y, 2, l2)
    phi, phi_q = margin_rows(w, x, y), margin_rows(w, *queries)
    slope = 1 / (1 + np.exp(margins(w, x, y)))
    exact = phi_q @ np.linalg.solve(hessian, (slope[:, None] * phi).T)  # -grad margin_q . H^-1 g_i, g_i = -(1 - p) phi
    kinds = dict(lam=len(x) * l2, relative=0.0, curvature="newton")
    found = trak(linear(4, 2), TASK, variables_of(w), batch_of(x, y), batch_of(*queries), **kinds)
    close(found, exact.T, 1e-9)


@pytest.mark.parametrize("classes", toy.some([3, 2, 5], 1))
def test_scores_foretell_leave_one_out_margins(classes, double):
    """Ranks and scale of the fall of margins, by the default curvature; the paper's letter is at least 4 times less."""
    x, y = regression(n=120, classes=classes, seed=classes)
    queries, l2 = (x[:12] + 0.3, y[:12]), 0.1
    w, fell = leave_one_out(x, y, classes, l2, queries)
    given = linear(4, classes), TASK, variables_of(w), batch_of(x, y), batch_of(*queries)
    scale, rank = {}, {}
    for curvature in ("mean", "newton", "identity"):
        kinds = dict(lam=120 * l2, relative=0.0, curvature=curvature)
        found = np.asarray(trak(*given, **kinds)) / 120
        rank[curvature] = np.mean([spearmanr(found[:, q], fell[:, q]).statistic for q in range(12)])
        scale[curvature] = (found * fell).sum() / np.square(fell).sum()
    assert min(rank["mean"], rank["newton"]) > 0.95
    assert all(0.8 < scale[name] < 1.5 for name in ("mean", "newton"))
    assert rank["identity"] < rank["mean"] + 1e-9 and scale["identity"] < scale["mean"] / 2


@pytest.mark.parametrize("rows", [40, 9])
@pytest.mark.parametrize("curvature", toy.some(["newton", "mean", "identity"], 1))
def test_either_way_of_solving_is_the_formula(rows, curvature, double):
    """15 parameters: 40 rows are solved in parameters, 9 in rows; weights multiply kernel and score."""
    x, y = regression(n=rows)
    w = np.random.default_rng(3).normal(size=(5, CLASSES))
    phi, phi_q = margin_rows(w, x, y), margin_rows(w, x[:5] + 1, y[:5])
    slope = 1 / (1 + np.exp(margins(w, x, y)))
    for weight in (np.ones(rows), np.where(np.arange(rows) % 3 == 0, 0, 0.5 + 0.1 * (np.arange(rows) % 2))):
        bend = weight * {"mean": np.average(slope * (1 - slope), weights=weight), "identity": 1}.get(
            curvature, slope * (1 - slope)
        )
        square = (bend[:, None] * phi).T @ phi
        lam = 0.3 + 0.05 * np.trace(square) / min((weight > 0).sum(), 15)
        solved = np.linalg.solve(square + lam * np.eye(15), phi_q.T)
        truth = rows * weight[:, None] * slope[:, None] * (phi @ solved)
        given = linear(), TASK, variables_of(w), batch_of(x, y, weight), batch_of(x[:5] + 1, y[:5])
        close(trak(*given, lam=0.3, relative=0.05, curvature=curvature), truth, 1e-10)
    absent = np.asarray(trak(*given, lam=0.3, relative=0.0, curvature=curvature))
    assert (absent[::3] == 0).all()
    kept = np.arange(rows) % 3 > 0
    fewer = batch_of(x[kept], y[kept], weight[kept])
    less = trak(*given[:3], fewer, given[4], lam=0.3, relative=0.0, curvature=curvature)
    close(absent[kept] / rows, np.asarray(less) / kept.sum(), 1e-10)


def test_kernel_of_factors_is_that_of_gradients():
    model, task, variables, train, queries = case("mlp")
    _, phi, _, phi_q = dense("mlp")
    assert phi.shape[1] > len(phi)
    slope = 1 / (1 + np.exp(np.asarray(values(model, task, variables, train, quantity="margin"), np.float64)))
    lam = 0.01 * np.square(phi).sum() / 7 * np.mean(slope * (1 - slope))
    square = np.mean(slope * (1 - slope)) * phi.T @ phi + lam * np.eye(phi.shape[1])
    truth = 7 * slope[:, None] * (phi @ np.linalg.solve(square, phi_q.T))
    close(trak(model, task, variables, train, queries, relative=0.01), truth, 1e-3)
    close(trak(model, task, variables, train, queries, relative=0.01, block=2), truth, 1e-3)


@pytest.mark.slow
def test_projected_scores_near_the_whole():
    x, y = regression(n=60, width=30)
    model = build_model("linear", CLASSES, (30,))
    train, queries = batch_of(x.astype(np.float32), y), batch_of(x[:10].astype(np.float32) + 0.1, y[:10])
    variables = jax.tree.map(lambda a: a.astype(jnp.float32), variables_of(fit(x, y, CLASSES, 0.1)[0]))
    kinds = dict(lam=6.0, relative=0.0)
    whole = np.asarray(trak(model, TASK, variables, train, queries, **kinds)).ravel()
    for kind, dim in (("rademacher", 40), ("rademacher", 400), ("gaussian", 400), ("factored", 60)):
        found = trak(model, TASK, variables, train, queries, dim=dim, kind=kind, key=jax.random.key(1), **kinds)
        assert np.corrcoef(np.asarray(found).ravel(), whole)[0, 1] > (0.6 if dim < 100 else 0.9)


@pytest.mark.slow
def test_members_are_averaged(double):
    x, y = regression()
    rng, train, queries = np.random.default_rng(0), batch_of(x, y), batch_of(x[:6] + 1, y[:6])
    members = [variables_of(rng.normal(size=(5, CLASSES))) for _ in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *members)
    alone = [np.asarray(trak(linear(), TASK, v, train, queries, lam=1.0)) for v in members]
    close(trak(linear(), TASK, stacked, train, queries, lam=1.0, ensemble=True), np.mean(alone, axis=0), 1e-12)
    one = jax.tree.map(lambda a: a[1:2], stacked)
    close(trak(linear(), TASK, one, train, queries, lam=1.0, ensemble=True), alone[1], 1e-12)
    slopes = [1 / (1 + np.exp(np.asarray(values(linear(), TASK, v, train, quantity="margin")))) for v in members]
    paper = np.mean([a / s[:, None] for a, s in zip(alone, slopes)], axis=0) * np.mean(slopes, axis=0)[:, None]
    factors = trak(linear(), TASK, stacked, train, queries, lam=1.0, ensemble=True, average="factors")
    close(factors, paper, 1e-12)
    key = jax.random.key(0)
    parts = [trak(linear(), TASK, v, train, queries, lam=1.0, dim=4, key=key) for v in members[:1] * 2]
    same = jax.tree.map(lambda a: jnp.stack([a[0]] * 2), stacked)
    both = trak(linear(), TASK, same, train, queries, lam=1.0, dim=4, key=key, ensemble=True)
    assert np.array_equal(*parts) and np.abs(np.asarray(both) - parts[0]).max() > 1e-3  # each member draws its own


@pytest.mark.slow
def test_language_by_whole_answers():
    model, task, variables, train, queries = case("decoder")
    _, phi, _, phi_q = dense("decoder")
    slope = 1 / (1 + np.exp(np.asarray(values(model, task, variables, train, quantity="margin"), np.float64)))
    bend = np.mean(slope * (1 - slope))
    solved = np.linalg.solve(bend * phi @ phi.T + 2.0 * np.eye(7), phi @ phi_q.T)
    found = trak(model, task, variables, train, queries, lam=2.0, relative=0.0)
    close(found, 7 * slope[:, None] * solved, 1e-3)


def test_a_small_lam_has_a_limit_where_rows_are_fewer(double):
    x, y = regression(n=6)
    w = np.random.default_rng(3).normal(size=(5, CLASSES))
    given = linear(), TASK, variables_of(w), batch_of(x, y), batch_of(x + 1, y)
    close(trak(*given, relative=0.0), trak(*given, relative=0.0, lam=1e-9), 1e-5)


def test_representer_scores_are_contributions_to_margins(double):
    x, y = regression()
    l2, weight = 0.05, 0.5 + np.arange(40) % 2 * 0.5
    weight[3] = 0
    w, _ = fit(x, y, CLASSES, l2, weight)
    variables, train, queries = variables_of(w), batch_of(x, y, weight), batch_of(x[:6] + 1, y[:6])
    parts = np.asarray(representer_logits(linear(), TASK, variables, train, queries, l2=l2))
    assert np.abs(parts.sum(axis=0) - np.concatenate([x[:6] + 1, np.ones((6, 1))], axis=1) @ w).max() < 1e-8
    scores = np.asarray(representer(linear(), TASK, variables, train, queries, l2=l2))
    tilt = jax.vmap(jax.grad(lambda z, b: TASK.margin(z[None], jax.tree.map(lambda a: a[None], b))[0]))
    slopes = np.asarray(tilt(jnp.asarray(parts.sum(axis=0)), queries))
    close(scores / 40, np.einsum("iqk,qk->iq", parts, slopes), 1e-10)
    assert (scores[3] == 0).all()
    f, f_q = (np.concatenate([a, np.ones((len(a), 1))], axis=1) for a in (x, x[:6] + 1))
    alphas = -weight[:, None] * (softmax(f @ w) - np.eye(CLASSES)[y]) / (l2 * len(x))
    close(representer_values(linear(), TASK, variables, train, l2=l2), alphas, 1e-12)
    close(parts, alphas[:, None] * (f @ f_q.T)[:, :, None], 1e-12)
    # influence with l2 I for curvature
    close(scores, gram(linear(), TASK, variables, train, queries, quantity="margin") / l2, 1e-9)
    loss = representer(linear(), TASK, variables, train, queries, l2=l2, quantity="loss")
    close(loss, gram(linear(), TASK, variables, train, queries) / l2, 1e-9)


def test_representer_of_the_last_layer_alone():
    model, task, variables, train, queries = case("mlp")
    last = gram(model, task, variables, train, queries, select=head_only)
    close(representer(model, task, variables, train, queries, l2=0.5, quantity="loss"), last / 0.5, 1e-4)
    kernel = gram(model, task, variables, train, queries, select=_head_kernel)
    bare = representer(model, task, variables, train, queries, l2=0.5, quantity="loss", bias=False)
    close(bare, kernel / 0.5, 1e-4)


def _head_kernel(path):
    return path == "head/kernel"


def scorers():
    model, task, variables, train, queries = case("mlp")
    return {
        "gram": lambda t=train, q=queries, v=variables: gram(model, task, v, t, q),
        "cosine": lambda t=train, q=queries, v=variables: cosine(model, task, v, t, q),
        "tracin": lambda t=train, q=queries, v=variables: tracin(model, task, [v], t, q, rates=[0.1]),
        "trak": lambda t=train, q=queries, v=variables: trak(model, task, v, t, q),
        "representer": lambda t=train, q=queries, v=variables: representer(model, task, v, t, q, l2=0.1),
    }


@pytest.mark.parametrize("name", toy.some(["gram", "trak", "representer", "cosine", "tracin"], 3))
def test_empty_and_odd_sets(name):
    of, (_, _, variables, train, queries) = scorers()[name], case("mlp")
    assert len(scorers()) == 5  # all of them are asked
    nothing = jax.tree.map(lambda x: x[:0], train)
    assert of(q=nothing).shape == (7, 0)
    assert of(q=nothing).dtype == jnp.float32
    refuses("train has no rows", of, t=nothing)
    refuses(r"train has inputs.*lengths \[6, 7\]", of, t=train._replace(targets=train.targets[:6]))
    refuses("queries has inputs", of, q=queries._replace(weight=jnp.ones(3)))
    lost = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), variables["params"])
    refuses("not finite", of, v={"params": lost, "state": {}})


def test_sentences_name_the_rows():
    model, task, variables, train, queries = case("mlp")
    bad = train._replace(inputs=train.inputs.at[jnp.array([1, 4])].set(jnp.nan))
    refuses("of train rows 1, 4 are not finite", gram, model, task, variables, bad, queries)
    bad_q = queries._replace(inputs=queries.inputs.at[3].set(jnp.inf))
    for of in (gram, trak):
        refuses("of queries 3 are not finite", of, model, task, variables, train, bad_q)
    how = dict(dim=4, key=jax.random.key(0))
    refuses("of rows 1, 4 are not finite", projected_gradients, model, task, variables, bad, **how)
    refuses("not finite on train", trak, model, task, variables, bad, queries)
    refuses("train rows 1, 4", gradient_norms, model, task, variables, bad)


def test_settings_that_do_not_fit():
    given, key = case("mlp"), jax.random.key(0)
    refused = [
        (lambda: gram(*given, quantity="logits"), "unknown quantity"),
        (lambda: gram(*given, normalise="norm"), "unknown normalise"),
        (lambda: gram(*given, select=lambda path: False), "select chooses none"),
        (lambda: gram(*given, block=0), "block is 0"),
        (lambda: tracin(*given[:2], [given[2]], *given[3:], rates=[0.1, 0.2]), "one for each of the 1 checkpoints"),
        (lambda: tracin(*given[:2], [given[2]], *given[3:], rates=0.1), "one for each of the 1"),
        (lambda: tracin(*given[:2], [], *given[3:], rates=[]), "no checkpoints"),
        (lambda: tracin(*given[:2], given[2], *given[3:], rates=[0.1]), "differ in their leading axes"),
        (lambda: tracin_self(*given[:2], [given[2]], given[3], rates=[np.nan]), "rates hold values"),
        (lambda: projected_gradients(*given[:4], dim=0, key=key), "dim of at least 1"),
        (lambda: projected_gradients(*given[:4], dim=3, key=key, kind="sparse"), "unknown projection"),
        (lambda: project(jnp.ones((2, 3)), 2, key, kind="factored"), "unknown projection"),
        (lambda: project_factors(Factors(jnp.ones((1, 1, 3)), jnp.ones((1, 1, 3))), 0, 2, key), "dim of at least 1"),
        (lambda: trak(*given, dim=4), "give key"),
        (lambda: trak(*given, lam=-1.0), "lam is -1.0"),
        (lambda: trak(*given, relative=np.nan), "relative is nan"),
        (lambda: trak(*given, curvature="flat"), "unknown curvature"),
        (lambda: trak(*given, average="median"), "unknown average"),
        (lambda: representer(*given, l2=0.0), "l2 is 0.0"),
        (lambda: representer(*given, l2=0.1, quantity="logits"), "unknown quantity"),
        (lambda: representer(*case("decoder"), l2=0.1), "use gram or trak"),
    ]
    for of, sentence in refused:
        refuses(sentence, of)


@pytest.mark.parametrize("rows", [40, 8])
def test_singular_kernels(rows):
    """Softmax gradients have a direction that nothing moves; twice the same row in the other form."""
    x, y = (a.astype(t) for a, t in zip(regression(n=rows), (np.float32, np.int32)))
    if rows == 8:
        x[1], y[1] = x[0], y[0]
    model = build_model("linear", CLASSES, (4,))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    given = model, TASK, variables, batch_of(x, y), batch_of(x, y)
    refuses("singular in float32: give a larger lam", trak, *given, relative=0.0)
    assert np.isfinite(trak(*given, relative=1e-3)).all()
