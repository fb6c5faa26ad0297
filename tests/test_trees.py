import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlearn_jax import trees

A = {"a": jnp.asarray([1.0, 2.0]), "b": (jnp.asarray([[3.0]]),)}
B = {"a": jnp.asarray([10.0, 20.0]), "b": (jnp.asarray([[30.0]]),)}


def values(tree):
    return [np.asarray(x).tolist() for x in jax.tree.leaves(tree)]


def test_add_scale_and_select():
    assert values(trees.tree_add(A, B)) == [[11.0, 22.0], [[33.0]]]
    assert values(trees.tree_add(A, B, 0.5)) == [[6.0, 12.0], [[18.0]]]
    assert values(trees.tree_add(A, B, jnp.float32(-1.0))) == [[-9.0, -18.0], [[-27.0]]]
    assert values(trees.tree_scale(A, 2.0)) == [[2.0, 4.0], [[6.0]]]
    assert values(trees.tree_select(jnp.bool_(True), A, B)) == values(A)
    assert values(trees.tree_select(jnp.bool_(False), A, B)) == values(B)


def test_scaling_keeps_the_dtype_of_each_leaf():
    tree = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    for scale in (0.5, jnp.float32(0.5)):
        for found in (trees.tree_scale(tree, scale), trees.tree_add(tree, tree, scale)):
            assert found["half"].dtype == jnp.bfloat16 and found["single"].dtype == jnp.float32


def test_dot_sums_over_all_leaves_in_single_precision():
    assert float(trees.tree_dot(A, B)) == 10.0 + 40.0 + 90.0
    half = {"x": jnp.full(4, 0.5, jnp.bfloat16)}
    assert trees.tree_dot(half, half).dtype == jnp.float32 and float(trees.tree_dot(half, half)) == 1.0
    assert float(trees.tree_dot({}, {})) == 0.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_all_finite_looks_at_every_floating_leaf(dtype):
    for value, finite in ((0.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)):
        tree = {"count": jnp.arange(3), "x": A, "last": jnp.asarray([1.0, value], dtype)}
        assert bool(trees.all_finite(tree)) == finite
    assert bool(trees.all_finite({"count": jnp.arange(3)})) and bool(trees.all_finite({}))


def population(first, members):
    x = np.arange(first, first + members, dtype=np.float32)
    return {"params": {"w": x[:, None] * np.ones((1, 3), np.float32)}, "state": {}}


def test_shared_weights_are_split_off():
    variables = population(0, 4) | {"shared": {"base": np.zeros(2)}}
    own, shared = trees.split_shared(variables)
    assert set(own) == {"params", "state"} and set(shared) == {"base"}
    assert trees.split_shared(own)[1] == {} and set(trees.split_shared(own)[0]) == {"params", "state"}


@pytest.mark.parametrize("index", [slice(1, 3), np.array([1, 2]), jnp.asarray([1, 2])])
def test_members_are_taken_along_the_first_axis_only(index):
    base = np.arange(7.0)
    taken = trees.take_members(population(0, 4) | {"shared": {"base": base}}, index)
    np.testing.assert_array_equal(taken["params"]["w"][:, 0], [1.0, 2.0])
    assert isinstance(taken["params"]["w"], np.ndarray) and taken["state"] == {}
    assert taken["shared"]["base"] is base
    assert "shared" not in trees.take_members(population(0, 4), index)


@pytest.mark.parametrize("index", [slice(1, 3), np.array([1, 2]), np.array([1, 1])])
def test_members_keys_are_taken_as_keys(index):
    keys = jax.random.wrap_key_data(jnp.arange(8, dtype=jnp.uint32).reshape(4, 2))
    taken = trees.take_members({"keys": keys, "x": np.arange(4)}, index)
    assert jax.dtypes.issubdtype(taken["keys"].dtype, jax.dtypes.prng_key)
    np.testing.assert_array_equal(jax.random.key_data(taken["keys"])[:, 0] // 2, taken["x"])


def test_populations_are_joined_in_order():
    base = {"base": np.zeros(2)}
    joined = trees.join_members([population(0, 2) | {"shared": base}, population(2, 3) | {"shared": base}])
    np.testing.assert_array_equal(joined["params"]["w"][:, 0], np.arange(5.0))
    assert joined["shared"] is base and joined["state"] == {}
    halves = [trees.take_members(joined, slice(0, 2)), trees.take_members(joined, slice(2, 5))]
    np.testing.assert_array_equal(trees.join_members(halves)["params"]["w"], joined["params"]["w"])
