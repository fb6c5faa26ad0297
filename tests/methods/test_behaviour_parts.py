"""What several methods are built of: sums over examples, linear systems, curvature and layers by depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.flatten_util import ravel_pytree
from oneshot import KEPT, SHAPE, WEIGHTS, K, batch, examples, gauss_newton, problem, sum_of_gradients, variables
from steps import flat

from unlearn_jax.errors import InputError
from unlearn_jax.methods.support import parts
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.models import build_model
from unlearn_jax.tasks import classification


def test_the_truth_is_the_models_gradient():
    program = jax.jit(lambda own: parts.loss_gradient(problem(), own, batch(KEPT[1])))
    for member in (0, 1):
        found = program(variables(member))
        np.testing.assert_allclose(flat(found), sum_of_gradients(member, KEPT[1]), rtol=2e-4, atol=1e-5)


# --- sums over examples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, micro", toy.some([(7, 16), (37, 16), (1, 16), (12, 5), (32, 8)], 2))
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


# --- linear systems and curvature -------------------------------------------------------------------------------------


def test_solve_needs_pivots_and_takes_one_or_several_right_sides_under_vmap():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 6, 6))
    matrices[0, 0, 0] = 0.0
    matrices[1] = np.eye(6)[[3, 0, 5, 1, 2, 4]]
    matrices[2] = matrices[2] @ np.diag(4.0 ** np.arange(-3, 3)) @ matrices[2].T
    right = rng.normal(size=(3, 6, 2))
    program = jax.jit(jax.vmap(parts.solve))
    found = program(jnp.float32(matrices), jnp.float32(right))
    lapack = np.linalg.solve(np.float32(matrices), np.float32(right))
    for a, b, x, theirs in zip(matrices, right, np.asarray(found, np.float64), np.float64(lapack)):
        np.testing.assert_allclose(a @ x, b, atol=1.5 * np.abs(a @ theirs - b).max() + 1e-6)
    np.testing.assert_allclose(found[:2], np.linalg.solve(matrices[:2], right[:2]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(program(jnp.float32(matrices), jnp.float32(right[:, :, 0])).shape, (3, 6))


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
            jnp.float32(flat(own["params"]))
        )
    product = jax.jit(lambda v: ravel_pytree(parts.curvature_product(problem(), own, some, back(v), kind))[0])
    found = np.stack([product(column) for column in np.eye(WEIGHTS, dtype=np.float32)], axis=1)
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=2e-5)
    lowest = np.linalg.eigvalsh((found + found.T) / 2)[0]
    assert lowest > -1e-4 if kind == "ggn" else lowest < -1e-2  # the two differ here
    with pytest.raises(InputError, match="unknown curvature 'fisher': choose ggn or hessian"):
        parts.curvature_product(problem(), own, some, own["params"], "fisher")


# --- layers by depth -----------------------------------------------------------------------------------------------


@functools.cache
def layered(name):
    """A problem and the parameters of a model with many layers."""
    model = build_model(name, K, (8, 8, 1), **MODELS[name])
    task = TrainSpec(model, classification(), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), K, Recipe())
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


def test_a_table_of_embeddings_is_no_kernel():
    model = build_model("decoder", 12, (6,), width=8, depth=2, heads=2)
    task = TrainSpec(model, classification(), jax.ShapeDtypeStruct((1, 6), jnp.int32), 3, Recipe())
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 6), jnp.int32))["params"]
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    kernels = ("attention/qkv", "attention/out", "gate_up", "down")
    found = live(parts.convolutions(task, params))
    assert found == {f"block{i}/{name}/kernel" for i in range(2) for name in kernels}
