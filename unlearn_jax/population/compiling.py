"""The programs of a fold for a chunk of members on a mesh, lowered and compiled once per fold, shapes and mesh."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from unlearn_jax.population import memory
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.program import BOUNDS, Fold, identity, loops, member_programs, shapes_of
from unlearn_jax.population.sharding import (
    data_size,
    hold_weights,
    member_shardings,
    over_members,
    split_batch,
    weight_shardings,
)
from unlearn_jax.runtime import multihost
from unlearn_jax.runtime.platform import made_for, platform
from unlearn_jax.types import PyTree


class Lowered(NamedTuple):
    """The programs of one fold at one chunk width on one mesh, not yet compiled."""

    key: tuple  # what they depend on
    begin: jax.stages.Lowered
    advance: jax.stages.Lowered
    end: jax.stages.Lowered
    host_loop: bool


class Compiled(NamedTuple):
    """The same, compiled."""

    begin: Callable
    advance: Callable  # (carry, member, (start, stop, ...)) or, in a host loop, one update at start
    end: Callable
    host_loop: bool


LOWERED: dict[tuple, Lowered] = {}
COMPILED: dict[tuple, Compiled] = {}  # those used last at the end


MAX_PROGRAMS, FEW_PROGRAMS = 128, 8  # folds kept compiled, and where memory maps are `memory.crowded`


def for_many(tree: PyTree, members: int) -> PyTree:
    """Shapes of ``members`` of what is given for one."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), tree)


def lower(
    fold: Fold,
    plan: Plan,
    mesh: Mesh,
    axis: str,
    loop: str,
    own: tuple,
    common: tuple,
    *,
    target: str = "",
    conv: str = "",
) -> tuple[Lowered, float]:
    """Lower the programs, once per fold, shapes and mesh.

    Args:
        fold: the method.
        plan: gives the static batch sizes.
        mesh: devices for the member axis.
        axis: vmap or map.
        loop: scan, host or auto.
        own: (member, starting variables) of a chunk, with a leading axis; arrays or their shapes.
        common: (data, steps, shared weights).
        target: another platform to lower for (cpu, tpu, cuda, rocm); such programs cannot be compiled here.
        conv: conv or im2col for convolutions that are left to the library; '' = by platform and width.

    Returns:
        The lowered programs, and the seconds that this call spent on them.
    """
    own, common = shapes_of(own), shapes_of(common)
    key = (fold, axis, loop, mesh, identity((own, common)), plan.forget_batch, plan.retain_batch, conv, target)
    if key in LOWERED:
        return LOWERED[key], 0.0
    started = time.perf_counter()
    with made_for(target, conv):
        LOWERED[key] = _lowered(key, plan, own, common)
    return LOWERED[key], time.perf_counter() - started


def _lowered(key: tuple, plan: Plan, own: tuple, common: tuple) -> Lowered:
    """`lower`, of shapes; ``key`` holds the other arguments."""
    fold, axis, loop, mesh, *_, target = key
    (member, variables), (data, steps, shared) = own, common
    hold, spread = (lambda tree: hold_weights(tree, mesh)), (lambda tree: split_batch(tree, mesh))
    begin, advance, end = member_programs(fold, plan.forget_batch, plan.retain_batch, hold, spread)
    scanned, single = loops(advance)
    split, whole = member_shardings(mesh)
    held = lambda tree: weight_shardings(mesh, tree)
    base = weight_shardings(mesh, shared, members=False)
    everywhere = (whole, whole, whole, whole, base)

    def lowered(fn, donate, placed, first, second, common):
        spread_out = over_members(fn, axis, mesh)

        def call(first, second, common):
            return spread_out((first, second), common)

        result = None if data_size(mesh) == 1 else jax.eval_shape(call, first, second, common)
        jitted = jax.jit(call, donate_argnums=donate, in_shardings=placed, out_shardings=held(result))
        traced = jitted.trace(first, second, common)
        return traced.lower(lowering_platforms=(target,)) if target else traced.lower()

    first = lowered(begin, (), (split, held(variables), base), member, variables, shared)
    carry, stepping = shapes_of(first.out_info), (*BOUNDS, data, steps, shared)
    step = lowered(scanned, (0,), (held(carry), split, everywhere), carry, member, stepping)
    convolves = platform() == "cpu" and "stablehlo.convolution" in step.as_text()
    host_loop = loop == "host" or (loop == "auto" and convolves)  # a convolution is slow inside a loop on a CPU
    if host_loop:
        step = lowered(single, (0,), (held(carry), split, everywhere), carry, member, stepping)
    last = lowered(end, (), (held(carry), split, base), carry, member.hp, shared)
    return Lowered(key, first, step, last, host_loop)


def compiled(programs: Lowered) -> tuple[Compiled, float]:
    """Compile lowered programs, or take those of an earlier call, and the seconds that this one spent."""
    if programs.key in COMPILED:
        COMPILED[programs.key] = program = COMPILED.pop(programs.key)
        return program, 0.0
    started = time.perf_counter()
    alone = not multihost.several()  # several processes keep the same, for some compile together
    most = FEW_PROGRAMS if alone and memory.crowded() else MAX_PROGRAMS
    while len(COMPILED) >= most:  # what was not used for longest goes first, with the text, which holds on to it
        LOWERED.pop(oldest := next(iter(COMPILED)), None)
        del COMPILED[oldest]
    parts = [part.compile() for part in (programs.begin, programs.advance, programs.end)]
    COMPILED[programs.key] = program = Compiled(*parts, host_loop=programs.host_loop)
    return program, time.perf_counter() - started
