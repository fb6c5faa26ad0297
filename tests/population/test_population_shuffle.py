import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from unlearn_jax.population.shuffle import positions

LONG = 256  # slots that the property test looks at


@functools.cache
def _program(batch, steps):
    """Slots of ``steps`` consecutive batches, for one key."""
    one = jax.vmap(lambda key, step, count: positions(key, step, batch, count), in_axes=(None, 0, None))
    return jax.jit(lambda key, first, count: one(key, first + jnp.arange(steps, dtype=jnp.int32), count).reshape(-1))


def stream(seed, count, batch, steps, first=0):
    return np.asarray(_program(batch, steps)(jax.random.key(seed), jnp.int32(first), jnp.int32(count)))


def epochs(slots, count):
    whole = len(slots) // count
    return slots[: whole * count].reshape(whole, count)


@pytest.mark.parametrize("count, batch, steps", [(1, 8, 60), (2, 8, 60), (30, 8, 60), (8, 8, 60), (1300, 128, 41)])
def test_each_epoch_shows_every_example_once(count, batch, steps):
    found = epochs(stream(0, count, batch, steps), count)
    assert len(found) >= 3
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(count), found.shape))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(1, LONG), batch=st.sampled_from([7, 32]), seed=st.integers(0, 2**31 - 1))
def test_any_count_batch_and_key_give_permutations(count, batch, seed):
    slots = stream(seed, count, batch, -(-LONG // batch))
    assert slots.dtype == np.int32 and slots.min() >= 0 and slots.max() < count
    found = epochs(slots, count)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(count), found.shape))


def test_epochs_and_keys_have_their_own_orders():
    first = epochs(stream(0, 30, 8, 60), 30)
    assert len({tuple(order) for order in first}) == len(first) == 16
    others = [tuple(epochs(stream(seed, 30, 8, 60), 30)[0]) for seed in range(20)]
    assert len(set(others)) == 20


def test_an_order_is_neither_the_rows_order_nor_a_shift_of_another():
    orders = epochs(stream(3, 30, 8, 60), 30)
    shifts = np.array([(b - a) % 30 for a, b in zip(orders[:-1], orders[1:])])
    assert all(len(set(shift)) > 5 for shift in shifts)
    assert all(len(set((order - np.arange(30)) % 30)) > 5 for order in orders)


def test_steps_asked_one_by_one_are_one_stream():
    whole = stream(1, 30, 8, 60)
    steps = np.concatenate([stream(1, 30, 8, 1, first=t) for t in range(60)])
    np.testing.assert_array_equal(steps, whole)
    np.testing.assert_array_equal(stream(1, 30, 32, 8), whole[:256])  # slots count, not batches


def test_an_empty_set_gives_zeros_and_a_batch_of_no_slots_is_empty():
    np.testing.assert_array_equal(stream(0, 0, 8, 60), np.zeros(480))
    found = jax.eval_shape(lambda key: positions(key, jnp.int32(3), 0, jnp.int32(5)), jax.random.key(0))
    assert found.shape == (0,) and found.dtype == jnp.int32


def test_members_with_different_counts_share_one_program():
    counts = [0, 1, 17, 40]
    keys = jax.random.wrap_key_data(jnp.stack([jax.random.key_data(jax.random.key(seed)) for seed in range(4)]))
    together = jax.jit(jax.vmap(lambda key, count: positions(key, jnp.int32(2), 7, count)))
    slots = together(keys, jnp.asarray(counts, jnp.int32))
    for seed, count in enumerate(counts):
        np.testing.assert_array_equal(slots[seed], stream(seed, count, 7, 37)[14:21])


def uniformity(values, bins, size):
    """p-value of chi-square for values in 0..size-1 being uniform, cut into equal bins."""
    found = np.bincount(values * bins // size, minlength=bins)
    expected = len(values) * np.diff(np.ceil(np.arange(bins + 1) * size / bins)) / size
    return chi2.sf(((found - expected) ** 2 / expected).sum(), bins - 1)


@functools.cache
def _first_epochs(slots, keys):
    """Program of the first slots of many keys, for any count."""
    one = jax.vmap(lambda key, count: positions(key, jnp.int32(0), slots, count), in_axes=(0, None))
    return jax.jit(lambda count: one(jax.random.split(jax.random.key(9), keys), count))


@functools.cache
def landed(count):
    """(keys, example) the slot of its first epoch at which each example lands."""
    program = _first_epochs(30, 4000) if count <= 30 else _first_epochs(count, 600)
    return np.argsort(np.asarray(program(jnp.int32(count)))[:, :count], axis=1)


@pytest.mark.parametrize("count, bins", toy.some([(2, 2), (3, 3), (30, 30), (1300, 20), (5000, 20)], 4))
def test_an_example_lands_anywhere_alike(count, bins):
    for example in {0, 1, count // 2, count - 1}:
        assert uniformity(landed(count)[:, example], bins, count) > 1e-3


@pytest.mark.parametrize("count", toy.some([30, 5000], 1))
def test_two_examples_land_independently(count):
    slots = landed(count)
    for first, second in [(0, 1), (0, count - 1), (count // 2, count // 2 + 1)]:
        distance = (slots[:, second] - slots[:, first]) % count - 1  # uniform on 0..count-2
        assert uniformity(distance, 10, count - 1) > 1e-3


def test_all_orders_of_three_are_equally_frequent():
    codes = landed(3) @ np.array([9, 3, 1])
    kinds, found = np.unique(codes, return_counts=True)
    expected = len(codes) / 6
    assert len(kinds) == 6
    assert chi2.sf(((found - expected) ** 2 / expected).sum(), 5) > 1e-3
