import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.sharding import PartitionSpec

from unlearn_jax.errors import InputError
from unlearn_jax.population import run
from unlearn_jax.population.members import member_keys
from unlearn_jax.population.run import Options
from unlearn_jax.population.sharding import WIDE, WIDE_CPU, choose_axis, member_mesh, member_shardings, over_members


def test_there_are_four_devices_to_test_on():
    assert member_mesh(8).size == 4 and member_mesh(8).axis_names == ("member",)
    assert member_mesh(2).size == 2  # no device idles on padding


def test_no_device_talks_to_another(trained):
    program = toy.program(toy.method()[0])  # the methods' programs are searched in their contract
    assert program.advance.input_shardings[0][0].loss.spec == PartitionSpec("member")
    for compiled in (program.begin, program.advance, program.end):
        assert toy.collectives(compiled) == set()
        assert "num_partitions=4" in compiled.as_text()
    split, _ = member_shardings(member_mesh(4))
    talking = jax.jit(lambda x: x.sum(axis=0), in_shardings=split).lower(jax.ShapeDtypeStruct((8, 3), jnp.float32))
    assert toy.collectives(talking.compile()) == {"all-reduce"}


@pytest.mark.parametrize(
    "members, chunk, width", [(1, 0, 1), (5, 0, 8), (100, 0, 16), (100, 6, 8), (3, 64, 3), (8, 8, 8)]
)
def test_chunk_width_is_a_multiple_of_the_devices(members, chunk, width):
    assert run.chunk_width(members, Options(chunk=chunk)) == width


@pytest.mark.parametrize("axis", ["vmap", "map"])
@pytest.mark.parametrize("devices", [1, 4])
def test_over_members_adds_the_axis_to_own_and_not_to_common(axis, devices):
    mesh = member_mesh(devices)
    own, common = jnp.arange(8.0).reshape(8, 1), jnp.arange(3.0)
    both = over_members(lambda one, every: {"out": one.sum() * every}, axis, mesh)
    np.testing.assert_allclose(jax.jit(both)(own, common)["out"], np.arange(8.0)[:, None] * np.arange(3.0))


@pytest.mark.parametrize("axis", ["vmap", "map"])
def test_a_member_alone_on_its_device_has_no_axis_and_no_loop(axis):
    fn = lambda one, every: {"out": jnp.tanh(one["x"]) @ every}
    own, common = {"x": jnp.arange(12.0).reshape(1, 3, 4)}, jnp.ones((4, 2))
    both = jax.jit(over_members(fn, axis, member_mesh(1)))
    np.testing.assert_allclose(both(own, common)["out"], np.tanh(own["x"]) @ np.ones((4, 2)), rtol=1e-6)
    text = both.lower(own, common).as_text()
    assert "while" not in text and "batching_dims" not in text
    several = jax.jit(over_members(fn, axis, member_mesh(1))).lower({"x": jnp.zeros((2, 3, 4))}, common).as_text()
    assert "while" in several or axis == "vmap"


def test_wide_models_run_one_after_another_and_an_unknown_axis_is_refused():
    with pytest.raises(InputError, match="unknown member axis 'rows'"):
        over_members(lambda own, common: own, "rows", member_mesh(4))
    assert choose_axis(WIDE, "gpu") == choose_axis(10 * WIDE, "tpu") == "map"
    assert choose_axis(WIDE / 2, "gpu") == choose_axis(WIDE_CPU / 2, "cpu") == choose_axis(WIDE_CPU / 2) == "vmap"
    assert choose_axis(WIDE_CPU, "cpu") == choose_axis(WIDE_CPU) == "map"
    assert choose_axis(10 * WIDE, "gpu", tokens=True) == "vmap" and choose_axis(WIDE_CPU, "cpu", tokens=True) == "map"


def test_keys_travel_with_their_members(trained):
    backwards = toy.train(keys=member_keys(0, "toy", 8)[::-1], options=Options(chunk=8))
    toy.close(toy.member(backwards.variables, slice(None, None, -1)), trained.variables)
