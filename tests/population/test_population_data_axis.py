"""One member held by several devices: the same members to rounding, and less of them on each device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.sharding import PartitionSpec

from unlearn_jax.methods import prepare
from unlearn_jax.models import build_model
from unlearn_jax.population import run, sharding
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Options
from unlearn_jax.tasks import classification
from unlearn_jax.types import Outputs

MODEL = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(256, 64))
MEMBERS = 4


def fitted(name, **settings):
    return prepare(name, toy.problem(MODEL), settings, toy.SIZES)


TRAINING = fitted("retrain")


def train(options, training=TRAINING, start=None):
    fold, plan, hp = training
    return toy.train(MEMBERS, fold=fold, plan=plan, hp=hp, start=start, options=options)


@pytest.fixture(scope="module")
def alone():
    """Members that one device holds each; read only."""
    return train(Options(chunk=MEMBERS))


@pytest.fixture
def begun(monkeypatch):
    """The loop's state of each chunk as it begins."""
    seen, train_chunk = [], run.train_chunk

    def looking(program, plan, member, variables, data, steps, shared, *rest):
        seen.append((program, program.begin(member, variables, shared)))
        return train_chunk(program, plan, member, variables, data, steps, shared, *rest)

    monkeypatch.setattr(run, "train_chunk", looking)
    return seen


@pytest.mark.parametrize("devices, axis, chunk", toy.some([(2, "vmap", 4), (4, "map", 4), (2, "map", 2)], 1))
def test_members_held_by_several_devices_are_the_same_to_rounding(devices, axis, chunk, alone, begun):
    found = train(Options(chunk=chunk, data_devices=devices, axis=axis))  # with 2 in a chunk, one alone on a group
    toy.close(found.variables, alone.variables)
    np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-5, atol=1e-5)
    program, carry = begun[0]
    assert {s.mesh.shape["data"] for s in jax.tree.leaves(jax.tree.map(lambda x: x.sharding, carry))} == {devices}
    assert toy.collectives(program.advance) and toy.collectives(program.advance) <= {"all-reduce", "all-gather"}


def on_one_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("most", toy.some([2, 4], 1))
def test_weights_and_moments_on_a_device_fall_with_the_devices(most, begun):
    one = 0
    for devices in (1, most):
        begun.clear()
        train(Options(chunk=MEMBERS, data_devices=devices))
        program, carry = begun[0]
        members = MEMBERS // (4 // devices)  # on a group of devices
        own = on_one_device(carry.state) / members
        one = own if devices == 1 else one
        assert own < 1.1 * one / devices  # biases stay whole
        assert own * members <= program.advance.memory_analysis().argument_size_in_bytes
    held = [s.spec for s in jax.tree.leaves(jax.tree.map(lambda x: x.sharding, carry.state))]
    assert held.count(PartitionSpec("member", None, "data")) >= 3  # the first kernel and its two moments


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bad_teacher", "ssd", "salun"])
def test_methods_that_hold_a_teacher_or_statistics(name, alone):  # SCRUB begins with gradients of rounding alone
    method = fitted(name)
    start = alone.variables
    plain = train(Options(chunk=MEMBERS), method, start)
    found = train(Options(chunk=MEMBERS, data_devices=2), method, start)
    toy.close(found.variables, plain.variables, 1e-4)


def test_evaluation_of_members_held_by_several_devices(alone):
    how = {"width": MEMBERS, "block": 33}  # divides neither the rows nor the devices
    plain = evaluate(MODEL, classification(), alone.variables, toy.stored(), **how)
    found = evaluate(MODEL, classification(), alone.variables, toy.stored(), data_devices=2, **how)
    np.testing.assert_allclose(found.margin, plain.margin, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.correct, plain.correct)


def test_weights_that_all_members_share_are_split_too(monkeypatch):
    base = jnp.asarray(np.random.default_rng(1).normal(size=(16, 256)), jnp.float32)

    def apply(variables, inputs, key=None, train=False):
        hidden = inputs.reshape(inputs.shape[0], -1) @ variables["shared"]["base"]
        return Outputs(hidden @ variables["params"]["change"], hidden), variables["state"]

    problem = toy.problem(toy.perceptron()._replace(apply=apply))
    method = prepare("finetune", problem, {"epochs": 1, "batch": 8}, toy.SIZES)
    change = jnp.zeros((MEMBERS, 256, toy.CLASSES))
    start = {"params": {"change": change}, "state": {}, "shared": {"base": base}}
    plain = train(Options(chunk=MEMBERS), method, start)
    seen, place = [], run.multihost.placed
    monkeypatch.setattr(run.multihost, "placed", lambda *args: seen.append(place(*args)) or seen[-1])
    found = train(Options(chunk=MEMBERS, data_devices=4), method, start)
    toy.close(found.variables, plain.variables)
    assert (np.abs(found.variables["params"]["change"]).max(axis=(1, 2)) > 1e-4).all()
    placed = next(tree["base"] for tree in seen if isinstance(tree, dict) and "base" in tree)
    assert placed.addressable_shards[0].data.nbytes * 4 == base.nbytes


@pytest.mark.parametrize(
    "shape, spec",
    [
        ((64, 256), (None, "data")),
        ((256, 64), ("data",)),
        ((64, 64), ("data",)),
        ((255, 64), (None, "data")),
        ((255, 63), ()),
        ((512,), ()),  # small
        ((2048,), ("data",)),
        ((), ()),
    ],
)
def test_a_weight_is_split_along_its_longest_dimension_that_fits(shape, spec):
    assert sharding.data_spec(shape, 4) == PartitionSpec(*spec)
    assert sharding.data_spec(shape, 1) == PartitionSpec()
