"""Every method's programs can be made for TPUs and NVIDIA GPUs, though there is neither here: lowered, not compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import pytest
import toy
from steps import batch, both
from test_methods_common import FEW as COMPILED
from test_methods_common import NAMES, trial

from unlearn_jax.methods import METHODS
from unlearn_jax.models import build_model
from unlearn_jax.population import compiling as programs
from unlearn_jax.population.members import member_keys
from unlearn_jax.population.program import Member, columns
from unlearn_jax.population.sharding import member_mesh
from unlearn_jax.runtime.platform import made_for, platform

MEMBERS = 4
PLATFORMS = ("tpu", "cuda")
FEW = ("scrub", "certified_removal", "sisa")  # phases, a solver, a model of its own


def zeros(shapes, members):
    """Arrays of zeros with a leading member axis."""
    return jax.tree.map(lambda x: np.zeros((members, *x.shape), x.dtype), shapes)


def starting(name, model):
    """What a method starts from, all zeros: lowering looks at shapes alone."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *toy.SHAPE)))
    original, entry = zeros(shapes, MEMBERS), METHODS[name]
    if entry.begin is None:
        return original
    own = protocol.context(MEMBERS, model=model)
    logits = lambda own: np.zeros((len(jax.tree.leaves(own)[0]), toy.ROWS, toy.CLASSES), np.float32)
    own = own._replace(train=lambda role, fold, plan, rows, **_: zeros(shapes, len(rows)), predict=logits)
    return entry.begin(own, trial(name).static, original)[0]


def lowered(target, fold, plan, numeric, start, *, devices=4, data_devices=1, axis="vmap"):
    """The programs of a fold for a platform that is not here."""
    hp = {key: np.full(MEMBERS, value, np.float32) for key, value in numeric.items()}
    member = Member(member_keys(0, "toy", MEMBERS), toy.tables(MEMBERS), hp)
    common = (toy.stored(), columns(plan), {})
    mesh = member_mesh(devices // data_devices, data_devices)
    return programs.lower(fold, plan, mesh, axis, "auto", (member, start), common, target=target)[0]


def texts(found):
    return [part.as_text() for part in (found.begin, found.advance, found.end)]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPILED])
def test_an_update_and_the_end_keep_the_shapes_of_what_a_method_starts_from(name):
    (fold, plan, hp), start = trial(name).made, toy.member(starting(name, toy.normed()), 0)
    method, key = fold.build(hp, {}), jax.random.key(0)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    state = jax.eval_shape(method.init, key, start)
    batches = both(*(batch(np.zeros(size, int)) for size in (plan.forget_batch, plan.retain_batch)))
    after, loss = jax.eval_shape(jax.jit(method.update), key, state, batches)
    assert shapes(after) == shapes(state) and loss.shape == ()
    assert shapes(jax.eval_shape(method.finish, after)) == shapes({part: start[part] for part in ("params", "state")})


@pytest.mark.parametrize("target", PLATFORMS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in NAMES])
def test_programs_are_lowered_for(target, name):
    found = lowered(target, *trial(name).made, starting(name, toy.normed()))
    assert not found.host_loop
    for text in texts(found):
        assert "num_partitions = 4" in text
        assert "lapack" not in text and "cpu" not in text  # no call that only a CPU has


@pytest.mark.parametrize("target, width, own", toy.some(
    [("tpu", 96, "convolution"), ("cpu", 96, "convolution"), ("cuda", 8, "dot_general"), ("cuda", 96, "convolution"),
     ("tpu", 8, "dot_general"), ("cpu", 8, "dot_general")], 3,
))  # fmt: skip
def test_wide_convolutions_are_native_where_that_is_fast(target, width, own):
    model = build_model("convnet", toy.CLASSES, toy.SHAPE, widths=(width, width))
    fold, plan, numeric = toy.method("retrain", model=model)
    found = lowered(target, fold, plan, numeric, {})
    step = texts(found)[1]
    assert ("stablehlo.convolution" in step) == (own == "convolution" and target != "cpu")
    assert not found.host_loop  # where convolutions are native, they are fast in a loop


@pytest.mark.parametrize("target", toy.some(PLATFORMS, 1))
def test_members_held_by_several_devices_are_lowered_for(target):
    model = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(256,))
    found = lowered(target, *toy.method("retrain", model=model), {}, data_devices=2)
    assert "sharding_constraint" in texts(found)[1]


def test_what_is_lowered_for_another_platform_is_kept_apart():
    fold, plan, numeric = trial("retrain").made
    start = starting("retrain", toy.normed())
    here, there = (lowered(target, fold, plan, numeric, start) for target in ("", "tpu"))
    assert here.key != there.key and texts(here)[1] != texts(there)[1]
    with made_for("cuda"):
        assert platform() == "gpu"
    assert platform() == "cpu"
