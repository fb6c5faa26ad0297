"""The one runner: a fold, a plan and N members in, N trained members out.

Chunks of members go through one compiled program each: ``init``, a loop over the plan, ``finish``. Everything that
differs between members (key, index tables, starting variables, numeric hyperparameters) has a leading axis;
everything else (data, plan, weights under ``shared``) is common. A chunk that was trained before, by the same
program on the same inputs, is read back from the store instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax import trees
from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.population import program as programs
from unlearn_jax.population.members import Tables
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.program import Compiled, Fold, Lowered, Member, Stored, columns
from unlearn_jax.population.sharding import member_mesh, member_shardings
from unlearn_jax.types import Array, Population, PyTree

SEGMENTS = 20  # calls of the compiled loop per chunk, for progress


class Options(NamedTuple):
    """How a population is run; nothing here changes what a member becomes beyond rounding."""

    chunk: int = 0  # members per program; 0 = by backend
    axis: str = "vmap"  # vmap | map
    loop: str = "auto"  # scan (loop on the device) | host | auto
    store: Path | None = None  # where finished chunks are kept
    progress: Callable[[float, int], None] | None = None  # (members done, examples processed)
    label: str = ""  # written beside the stored chunk


DEFAULTS = Options()


def _train_chunk(program: Compiled, plan: Plan, member, variables, data, steps, shared, tick) -> tuple:
    """Run one chunk to its end; ``tick(fraction)`` after each segment."""
    carry = program.begin(member, variables, shared)
    stops = np.unique(np.linspace(0, plan.steps, min(SEGMENTS, plan.steps) + 1).astype(int))
    for start, stop in zip(stops[:-1], stops[1:]):
        if program.host_loop:
            for t in range(start, stop):
                carry = program.advance(carry, member, (jnp.int32(t), jnp.int32(t + 1), data, steps, shared))
        else:
            carry = program.advance(carry, member, (jnp.int32(start), jnp.int32(stop), data, steps, shared))
        if tick is not None:
            jax.block_until_ready(carry.loss)
            tick(stop / plan.steps)
    return jax.block_until_ready(program.end(carry, member.hp, shared))


def chunk_width(members: int, options: Options) -> int:
    """Members per compiled program: the asked or the backend's width, a multiple of the devices used."""
    width = min(options.chunk or (16 if jax.default_backend() == "cpu" else 64), members)
    devices = min(len(jax.devices()), width)
    return -(-width // devices) * devices


def run_population(
    fold: Fold,
    plan: Plan,
    data: Stored,
    tables: Tables,
    keys: Array,
    variables: PyTree,
    *,
    hp: dict[str, np.ndarray] | None = None,
    options: Options = DEFAULTS,
) -> Population:
    """Run a method, or a training, for every member.

    Args:
        fold: the method; hashable, and reused between calls so that programs are.
        plan: updates, common to all members.
        data: stored examples.
        tables: each member's rows, leading axis N.
        keys: (N,) typed keys.
        variables: starting variables with leading axis N (``shared`` without); for training from scratch ``{}``.
        hp: numeric hyperparameters, each (N,).
        options: chunks, member axis, loop, store and progress.

    Returns:
        The population, on the host.

    Raises:
        InputError: no member.
    """
    members = keys.shape[0]
    if members < 1:
        raise InputError("members is 0: ask for at least 1.")
    (own, shared), width = trees.split_shared(variables), chunk_width(members, options)
    mesh = member_mesh(width)
    split, everywhere = member_shardings(mesh)
    examples = _fingerprint(data) if options.store is not None else ""
    common = jax.device_put((data, columns(plan), shared), everywhere)
    whole = Member(keys, tables, {k: jnp.asarray(v, jnp.float32) for k, v in (hp or {}).items()})
    parts, seconds, compiling = [], 0.0, 0.0
    for start in range(0, members, width):
        rows = np.minimum(np.arange(start, start + width), members - 1)
        chunk = jax.device_put(trees.take_members({"member": whole, "begin": own}, rows), split)
        pair = (chunk["member"], chunk["begin"])
        lowered, lowering = programs.lower(fold, plan, mesh, options.axis, options.loop, pair, common)
        live = min(width, members - start)
        tick = _ticker(options, plan, start, live)
        done, waited, trained = _train_or_load(lowered, plan, options, pair, common, tick, start, examples)
        tick(1.0, trained)
        compiling += lowering + waited
        seconds += float(done["seconds"])
        parts.append(trees.take_members({"variables": done["variables"], "loss": done["loss"]}, slice(live)))
    result = trees.join_shared(trees.join_members([part["variables"] for part in parts]), shared)
    return Population(result, np.concatenate([part["loss"] for part in parts]), seconds / members, compiling)


def _ticker(options: Options, plan: Plan, start: int, live: int) -> Callable[..., None]:
    """Progress of one chunk as a function of the share of its updates done; what is read back counts no examples."""

    def tick(fraction: float, trained: bool = True) -> None:
        if options.progress is not None:
            examples = plan.steps * (plan.forget_batch + plan.retain_batch) * live * trained
            options.progress(start + fraction * live, int(fraction * examples))

    return tick


def _train_or_load(
    lowered: Lowered, plan: Plan, options: Options, pair, common, tick, start: int, examples: str
) -> tuple[dict, float, bool]:
    """One chunk's variables, losses and seconds, from the store or else trained; seconds compiling; whether trained."""
    digest = ""
    if options.store is not None:
        digest = checkpoint.digest_of(lowered.digest, examples, pair, *common[1:])
        found = checkpoint.load_chunk(options.store, digest)
        if found is not None:
            return found, 0.0, False
    program, waited = programs.compiled(lowered)
    clock = time.perf_counter()
    result, loss = _train_chunk(program, plan, *pair, *common, options.progress and tick)
    done = {"variables": result, "loss": loss, "seconds": np.float64(time.perf_counter() - clock)}
    done = jax.tree.map(np.asarray, done)
    if options.store is not None:
        checkpoint.save_chunk(options.store, digest, done, {"label": options.label, "first_member": start})
    return done, waited, True


_FINGERPRINT: list = []  # the examples last asked about and their digest; one entry, so that no old data stay alive


def _fingerprint(data: Stored) -> str:
    """Digest of the stored examples, computed once while the same (immutable) arrays come back."""
    known = _FINGERPRINT and all(a is b and isinstance(a, jax.Array) for a, b in zip(_FINGERPRINT[0], data))
    if not known:
        _FINGERPRINT[:] = [data, checkpoint.digest_of(data)]
    return _FINGERPRINT[1]
