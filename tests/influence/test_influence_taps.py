"""Per-example gradients, products and layers' factors against `jax.grad` example by example and against NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx
from refusals import refuses

from unlearn_jax.influence.per_example import (
    batch_of,
    example_gradients,
    flatten,
    jacobian_products,
    mean_gradient,
    over_examples,
    quantity_of,
    values,
)
from unlearn_jax.influence.taps import (
    Factors,
    layer_factors,
    layer_gradients,
    layer_gram,
    layer_square_norms,
    tappable,
    untapped,
)
from unlearn_jax.models import build_model, from_linen, from_nnx
from unlearn_jax.models.layers import Conv, head
from unlearn_jax.tasks import classification, free_text
from unlearn_jax.types import NOT_ANSWER

COUNT, CLASSES, VOCAB = 5, 3, 9
IMAGE = (6, 6, 2)


class _Strided(nn.Module):
    """Convolutions of this library and of Linen with strides, VALID, rectangles and biases."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(Conv(3, (3, 3), (2, 2), "VALID", name="valid")(x))
        x = nn.relu(nn.Conv(4, (3, 2), strides=(1, 2), padding="SAME", name="same")(x))
        x = nn.relu(nn.Conv(3, (1, 1), use_bias=False, padding="VALID", name="point")(x))
        features = x.reshape(len(x), -1)
        return head(CLASSES)(features), features


class _Odd(nn.Module):
    """A layer used twice, a grouped and a dilated convolution; only the head is one plain product."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(2, (3, 3), kernel_dilation=2, name="dilated")(nn.tanh(x))
        again = nn.Dense(2, name="again")
        features = again(nn.tanh(again(x))).reshape(len(x), -1)
        return head(CLASSES)(features), features


class _Nnx(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(x), x


@functools.cache
def case(name):
    """Model, task, variables with biases that are not 0, batch."""
    rng = np.random.default_rng(0)
    if name in ("encoder", "decoder"):
        tokens = rng.integers(1, VOCAB, (COUNT, 6)).astype(np.int32)
        tokens[0, 4:] = 0
        size = dict(width=8, depth=1, heads=2)
        if name == "encoder":
            model, targets = build_model("encoder", CLASSES, (6,), vocab=VOCAB, **size), np.arange(COUNT) % CLASSES
        else:
            targets = np.where(rng.random((COUNT, 6)) < 0.5, NOT_ANSWER, np.roll(tokens, -1, axis=1))
            targets[:, -1], targets[:, 2] = NOT_ANSWER, tokens[:, 3]
            model = build_model("decoder", VOCAB, (6,), **size)
        batch = batch_of(tokens, targets.astype(np.int32))
    else:
        inputs = rng.normal(size=(COUNT, *IMAGE)).astype(np.float32)
        batch = batch_of(inputs, (np.arange(COUNT) % CLASSES).astype(np.int32))
        models = {
            "mlp": lambda: build_model("mlp", CLASSES, IMAGE, widths=(7, 4)),
            "convnet": lambda: build_model("convnet", CLASSES, IMAGE, widths=(3, 4)),
            "batch": lambda: build_model("convnet", CLASSES, IMAGE, widths=(3,), norm="batch"),
            "vit": lambda: build_model("vit", CLASSES, IMAGE, patch=3, width=4, depth=1, heads=2),
            "strided": lambda: from_linen(_Strided()),
            "odd": lambda: from_linen(_Odd()),
        }
        model = models[name]()
    variables = jax.jit(model.init)(jax.random.key(1), batch.inputs)
    moved = lambda path, x: x + 0.1 * np.cos(np.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    variables = variables | {"params": jax.tree_util.tree_map_with_path(moved, variables["params"])}
    return model, free_text() if name == "decoder" else classification(), variables, batch


QUANTITIES = ("loss", "margin")


@functools.cache
def by_hands(name):
    """Each example's gradient tree by `jax.grad`, one after another, stacked; by quantity."""
    model, task, variables, batch = case(name)

    def one(params, example, quantity):
        of = lambda p: model.apply(variables | {"params": p}, example.inputs, train=False)[0].logits
        return jax.grad(lambda p: getattr(task, quantity)(of(p), example)[0])(params)

    both = jax.jit(lambda params, example: {quantity: one(params, example, quantity) for quantity in QUANTITIES})
    rows = [both(variables["params"], jax.tree.map(lambda x, i=i: x[i : i + 1], batch)) for i in range(COUNT)]
    return jax.tree.map(lambda *xs: np.stack(xs), *rows)


@functools.cache
def founds(name, micro=128):
    """What the library finds for both quantities: gradients, factors and what is made of them."""
    model, task, variables, batch = case(name)

    def of(variables, batch, quantity):
        gradients = example_gradients(model, task, variables, batch, quantity=quantity, micro=micro)
        if name == "odd":
            return gradients, {}, {}, {}, {}
        factors = layer_factors(model, task, variables, batch, quantity=quantity, micro=micro)
        each = lambda of: {path: of(layer) for path, layer in factors.items()}
        grams = each(lambda layer: layer_gram(layer, layer))
        return gradients, factors, each(layer_gradients), grams, each(layer_square_norms)

    return jax.jit(lambda v, b: {quantity: of(v, b, quantity) for quantity in QUANTITIES})(variables, batch)


def by_hand(name, quantity="loss"):
    return by_hands(name)[quantity]


def found(name, quantity="loss", micro=128):
    """Gradients, factors, layers' gradients, their Grams and square norms."""
    return founds(name, micro)[quantity]


def factors_of(name):
    return found(name)[1]


def rows_of(tree):
    return np.concatenate([np.asarray(x).reshape(COUNT, -1) for x in jax.tree.leaves(tree)], axis=1)


def at(tree, path):
    return functools.reduce(lambda found, part: found[part], path.split("/"), tree)


def close(a, b, tolerance=2e-5):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30)


NAMES = ("mlp", "strided", "decoder", "convnet", "batch", "vit", "encoder")  # the first three by default
LAYERS = {"mlp": 3, "convnet": 3, "batch": 2, "strided": 4, "vit": 6, "encoder": 5, "decoder": 4}


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ["odd", *toy.some(NAMES, 3)])
def test_example_gradients_are_those_of_grad(name, quantity):
    gradients = found(name, quantity)[0]
    close(gradients, rows_of(by_hand(name, quantity)))
    assert np.abs(np.asarray(gradients)).max() > 1e-3


@pytest.mark.parametrize("name", toy.some(NAMES, 3))
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_factors_make_every_layers_gradient_gram_and_ghost_norm(name, quantity):
    truth, (_, factors, gradients, grams, norms) = by_hand(name, quantity), found(name, quantity)
    assert len(gradients) == LAYERS[name] and set(gradients) == set(factors)
    for path, layer in gradients.items():
        held = at(truth, path)
        kernel = held["kernel"].reshape(COUNT, -1, held["kernel"].shape[-1])
        whole = np.concatenate([kernel, held["bias"][:, None]], axis=1) if "bias" in held else kernel
        close(layer, whole)
        rows = rows_of(held)
        close(grams[path], rows @ rows.T)
        close(norms[path], np.square(rows).sum(axis=1))


def check_tapped(name):
    model, _, variables, batch = case(name)
    factors = factors_of(name)
    every, left = set(untapped(variables, {})), untapped(variables, factors)
    assert set(left) == {p for p in every if p.rpartition("/")[0] not in factors}
    assert len(every) == len(jax.tree.leaves(variables["params"]))
    assert set(tappable(model, variables, batch)) == set(factors)
    return left


def test_what_can_be_tapped_and_what_is_left():
    assert check_tapped("mlp") == [] and "embed" in check_tapped("decoder")
    model, _, variables, batch = case("odd")
    assert tappable(model, variables, batch) == ["head"]
    other = from_nnx(_Nnx)
    assert tappable(other, other.init(jax.random.key(0), jnp.ones((2, 4))), batch_of(np.ones((2, 4)), np.ones(2))) == []


@pytest.mark.slow
def test_what_can_be_tapped_of_every_network():
    left = {name: check_tapped(name) for name in NAMES}
    assert "positions" in left["vit"]


def sizes(of, *given):
    """Shapes of everything that a program computes, inner programs included."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.shape for v in equation.outvars)
            for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
                if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                    yield from walk(getattr(value, "jaxpr", value))

    return set(walk(jax.make_jaxpr(of)(*given).jaxpr))


@pytest.mark.parametrize(
    ("positions", "through_factors"), [((1, 1), True), ((2, 3), True), ((9, 9), False), ((40, 2), False)]
)
def test_both_ways_to_a_gram(positions, through_factors):
    rng = np.random.default_rng(0)
    (t, u), (i, o), n, q = positions, (8, 7), 4, 6
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32))
    left, right = Factors(draw(n, t, i), draw(n, t, o)), Factors(draw(q, u, i), draw(q, u, o))
    truth = np.einsum("nti,nto,qui,quo->nq", left.inputs, left.slopes, right.inputs, right.slopes, optimize=True)
    close(layer_gram(left, right), truth)
    seen = {tuple(sorted(shape)) for shape in sizes(layer_gram, left, right)}
    assert (tuple(sorted((n, q, t, u))) in seen) == through_factors
    assert (tuple(sorted((n, i, o))) in seen) != through_factors


@pytest.mark.parametrize(("positions", "through_factors"), [(1, True), (3, True), (20, False)])
def test_both_ways_to_ghost_norms(positions, through_factors):
    rng = np.random.default_rng(0)
    n, i, o = 4, 8, 7
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32))
    layer = Factors(draw(n, positions, i), draw(n, positions, o))
    gradients = np.einsum("nti,nto->nio", layer.inputs, layer.slopes)
    close(layer_square_norms(layer), np.square(gradients).sum(axis=(1, 2)))
    seen = {tuple(sorted(shape)) for shape in sizes(layer_square_norms, layer)}
    assert (tuple(sorted((n, i, o))) in seen) != through_factors


def test_weights_count_in_the_mean_gradient_alone_and_margins_are_log_odds():
    model, task, variables, batch = case("mlp")
    weighted = batch._replace(weight=jnp.asarray([1.0, 0.0, 0.5, 1.0, 2.0]))
    rows = rows_of(by_hand("mlp"))
    close(mean_gradient(model, task, variables, weighted), np.asarray(weighted.weight) @ rows / COUNT)
    close(example_gradients(model, task, variables, weighted), rows)
    logits = np.asarray(model.apply(variables, batch.inputs)[0].logits, np.float64)
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(COUNT), np.arange(COUNT) % CLASSES]
    close(values(model, task, variables, batch), -np.log(p))
    close(values(model, task, variables, batch, quantity="margin"), np.log(p / (1 - p)))


@pytest.mark.parametrize("name", toy.some(["mlp", "decoder", "strided"], 1))
def test_products_are_gradients_along_directions(name):
    model, task, variables, batch = case(name)
    directions = np.random.default_rng(2).normal(size=(3, rows_of(by_hand(name)).shape[1])).astype(np.float32)
    for quantity in ("loss", "margin"):
        products = jax.jit(lambda v, q=quantity: jacobian_products(model, task, variables, batch, v, quantity=q))
        close(products(jnp.asarray(directions)), rows_of(by_hand(name, quantity)) @ directions.T, 1e-4)


def test_products_of_logits_are_finite_differences(double):
    model, x = build_model("mlp", CLASSES, (4,), widths=(6,), dtype="float64"), np.linspace(-1, 1, 20).reshape(5, 4)
    variables = jax.tree.map(lambda a: a.astype(jnp.float64), jax.jit(model.init)(jax.random.key(0), x))
    batch, flat = batch_of(x, np.zeros(5, int)), flatten(variables)
    directions = np.random.default_rng(0).normal(size=(2, flat.vector.size))
    of = quantity_of(model, classification(), "logits")
    for select in (None, lambda path: path.startswith("head")):
        flat = flatten(variables, select)
        v = jnp.asarray(directions[:, : flat.vector.size])
        found = jacobian_products(model, classification(), variables, batch, v, quantity="logits", select=select)
        step = 1e-6
        moved = [of(flat.rebuild(flat.vector + s * step * v[1]), batch) for s in (1, -1)]
        assert found.shape == (5, CLASSES, 2)
        close(found[..., 1], (moved[0] - moved[1]) / (2 * step), 1e-7)


def test_selected_parameters():
    model, task, variables, batch = case("mlp")
    truth = by_hand("mlp")
    kinds = {
        "head": (lambda path: path.startswith("head"), truth["head"]),
        "kernel": (lambda path: path == "dense1/kernel", truth["dense1"]["kernel"]),
        "biases": (lambda path: path.endswith("bias"), [truth[k]["bias"] for k in ("dense0", "dense1", "head")]),
    }
    for select, part in kinds.values():
        gradients = jax.jit(lambda v, s=select: example_gradients(model, task, v, batch, select=s))
        close(gradients(variables), rows_of(part))
        flat = flatten(variables, select)
        new = flat.rebuild(flat.vector + 1)
        changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(variables))]
        assert sum(changed) == len(jax.tree.leaves(part))
    assert list(layer_factors(model, task, variables, batch, select=lambda path: path == "dense1")) == ["dense1"]


def test_rebuilding_gives_the_variables_back():
    for name in ("mlp", "decoder"):
        variables = case(name)[2]
        flat = flatten(variables)
        assert jax.tree.all(jax.tree.map(np.array_equal, flat.rebuild(flat.vector), variables))


def test_answers_alone_count_in_language():
    model, task, variables, batch = case("decoder")
    logits = np.asarray(jax.jit(model.apply)(variables, batch.inputs)[0].logits, np.float64)
    every = jax.jit(lambda v, b: [values(model, task, v, b, quantity=quantity) for quantity in QUANTITIES])
    loss, margin = every(variables, batch)
    logprob = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    live = np.asarray(batch.targets) != NOT_ANSWER
    own = np.take_along_axis(logprob, np.maximum(np.asarray(batch.targets), 0)[..., None], axis=-1)[..., 0]
    close(loss, -(own * live).sum(axis=1) / live.sum(axis=1))
    whole = (own * live).sum(axis=1)
    close(margin, whole - np.log1p(-np.exp(whole)))
    slopes = factors_of("decoder")["block0/down"].slopes
    assert slopes.shape[1] == 6  # one row a position
    silent = batch._replace(targets=jnp.full_like(batch.targets, NOT_ANSWER))
    assert np.abs(jax.jit(lambda b: mean_gradient(model, task, variables, b))(silent)).max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "decoder", "strided"])
def test_few_at_a_time_is_the_same(name):
    for micro in (1, 2) if name == "mlp" else (2,):
        jax.tree.map(close, found(name, micro=micro), found(name))


def test_over_examples_gives_each_alone():
    batch = batch_of(np.arange(14.0).reshape(7, 2), np.arange(7))
    for micro in (2, 7, 100):
        found = over_examples(lambda one: {"sum": one.inputs.sum(), "target": one.targets}, batch, micro=micro)
        assert np.array_equal(found["sum"], np.arange(14.0).reshape(7, 2).sum(axis=1))
        assert found["target"].shape == (7, 1)


@pytest.mark.slow
def test_other_scalars_by_cotangent():
    model, task, variables, batch = case("mlp")
    first = layer_factors(
        model, task, variables, batch, cotangent=lambda logits, example: -task.loss(logits, example)[0]
    )
    for path, layer in factors_of("mlp").items():
        close(first[path].slopes, -layer.slopes)


@pytest.mark.slow
def test_half_precision_layers_give_wide_factors():
    model = build_model("mlp", CLASSES, IMAGE, widths=(7,), dtype="bfloat16")
    _, task, _, batch = case("mlp")
    variables = jax.jit(model.init)(jax.random.key(1), batch.inputs)
    factors = jax.jit(lambda v: layer_factors(model, task, v, batch))(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(factors)} == {jnp.dtype("float32")}
    select = lambda path: path == "dense0/kernel"
    rows = jax.jit(lambda v: example_gradients(model, task, v, batch, select=select))(variables)
    close(layer_gradients(factors["dense0"])[:, :-1].reshape(COUNT, -1), rows, 0.02)


@pytest.mark.slow
def test_members_by_vmap():
    model, task, variables, batch = case("mlp")
    two = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), variables)
    of = lambda v: layer_factors(model, task, v, batch)
    found = jax.jit(jax.vmap(of))(two)
    alone = jax.jit(of)(jax.tree.map(lambda x: 0.5 * x, variables))
    jax.tree.map(lambda a, b: close(a[1], b), found, alone)


def test_bad_batches_and_choices():
    refuses("give as many of each", batch_of, np.ones((3, 2)), np.ones(2, int))
    refuses("give one number for each of the 3", batch_of, np.ones((3, 2)), np.ones(3, int), np.ones(2))
    refuses("not finite", batch_of, np.array([[1.0, np.nan]]), np.ones(1, int))
    assert batch_of(np.ones((3, 2)), np.ones(3, int)).weight.tolist() == [1, 1, 1]
    assert batch_of(np.ones((3, 2)), np.ones(3, int), [0, 1, 2]).index.tolist() == [0, 1, 2]
    model, task, variables, batch = case("mlp")
    refuses("dense0/bias", flatten, variables, lambda path: False)
    refuses("unknown quantity 'los'", quantity_of, model, task, "los")
    refuses("directions are", jacobian_products, model, task, variables, batch, jnp.ones((2, 3)))
    refuses("select that fits", layer_factors, model, task, variables, batch, select=lambda path: False)


def test_layers_that_are_no_single_product():
    model, task, variables, batch = case("odd")
    factors = lambda name: layer_factors(model, task, variables, batch, select=lambda path: path == name)
    refuses("'again' is used more than once", factors, "again")
    for name in ("grouped", "dilated"):
        refuses(f"'{name}' is no plain", factors, name)
    rows = rows_of(by_hand("odd")["head"]["kernel"])
    close(layer_gradients(factors("head")["head"])[:, :-1].reshape(COUNT, -1), rows)


def test_models_of_nnx_cannot_be_tapped():
    model, x = from_nnx(_Nnx), np.ones((2, 4), np.float32)
    variables, batch = jax.jit(model.init)(jax.random.key(0), x), batch_of(x, np.zeros(2, np.int32))
    refuses("give a Linen model", lambda: layer_factors(model, classification(), variables, batch))
    assert example_gradients(model, classification(), variables, batch).shape == (2, 15)
