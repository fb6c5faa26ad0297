import jax
import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.population.members import grid, make_tables, member_keys, role_number, setting_name

data = lambda keys: np.asarray(jax.random.key_data(keys))


def test_keys_follow_the_stated_rule_and_more_members_leave_the_first_ones_as_they_are():
    few, many = data(member_keys(0, "original", 3)), data(member_keys(0, "original", 100))
    np.testing.assert_array_equal(few, many[:3])
    assert len(np.unique(many, axis=0)) == 100
    keys = member_keys(7, "oracle", 4)
    assert keys.shape == (4,) and jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key)
    root = jax.random.fold_in(jax.random.key(7), role_number("oracle"))
    np.testing.assert_array_equal(data(keys[2]), data(jax.random.fold_in(root, 2)))


def test_roles_and_seeds_give_different_keys():
    roles = ["original", "retrain", "oracle", "oracle_b", "placebo", "dedup", "scrub"]
    rows = [data(member_keys(seed, role, 5)) for role in roles for seed in (0, 1)]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 5 * len(rows)


def test_role_numbers_are_stable_and_31_bit():
    assert (role_number("original"), role_number("oracle")) == (796029061, 1995045856)  # stored populations rely on it
    assert all(0 <= role_number(role) < 2**31 for role in ("original", "oracle", "", "é"))


def test_tables_are_padded_and_count_what_is_live():
    kept, requested = [np.arange(5), np.array([7, 9])], [np.array([1]), np.array([], int)]
    sets = make_tables(kept, requested, pad_to=8)
    assert sets.kept.shape == (2, 8) and sets.kept.dtype == sets.kept_count.dtype == np.int32
    np.testing.assert_array_equal(sets.kept_count, [5, 2])
    np.testing.assert_array_equal(sets.kept[1, :2], [7, 9])
    np.testing.assert_array_equal(sets.kept[0, :5], np.arange(5))
    np.testing.assert_array_equal(sets.requested_count, [1, 0])
    assert sets.requested.shape == (2, 1) and sets.weight is None


def test_tables_without_request_or_with_too_small_a_pad():
    sets = make_tables([np.arange(5), np.arange(3)], pad_to=2)
    assert sets.kept.shape == (2, 5) and sets.requested.shape == (2, 1)
    np.testing.assert_array_equal(sets.requested_count, [0, 0])
    with pytest.raises(InputError, match="no training example left: ask for fewer targets"):
        make_tables([np.arange(3), np.array([], int)])


def test_grid_is_every_combination_first_name_slowest():
    points = grid({"alpha": [0.1, 0.5], "lr": [1.0, 2.0, 3.0]})
    assert points == [{"alpha": a, "lr": b} for a in (0.1, 0.5) for b in (1.0, 2.0, 3.0)]
    assert grid({}) == [{}]


def test_setting_names_are_as_in_the_records_and_tell_all_values_apart():
    assert setting_name({}) == ""
    assert len({setting_name({"alpha": value}) for value in (0.1, 0.1 + 1e-9)}) == 2
    assert setting_name({"alpha": 0.1, "lr": 1e-5, "bound": float("inf")}) == "alpha=0.1,lr=1e-05,bound=inf"
