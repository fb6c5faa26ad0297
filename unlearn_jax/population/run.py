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
from jax import lax

from unlearn_jax import trees
from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.population.members import Tables
from unlearn_jax.population.order import positions
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.sharding import member_mesh, member_shardings, over_members
from unlearn_jax.types import Array, Batch, Batches, Method, Population, PyTree

POINTS = 64  # training losses kept per member
SEGMENTS = 20  # calls of the compiled loop per chunk, for progress


class Stored(NamedTuple):
    """All examples of a study on the device, addressed by row."""

    inputs: Array  # (n, ...)
    targets: Array  # (n, ...)


class Fold(NamedTuple):
    """A method before its numeric hyperparameters are known.

    ``build(hp, shared) -> Method`` where ``hp`` maps names to scalars (they may be tracers) and ``shared`` holds
    the weights without a member axis; ``augment(key, inputs) -> inputs`` or None.
    """

    build: Callable[[dict[str, Array], PyTree], Method]
    augment: Callable | None = None


class Options(NamedTuple):
    """How a population is run; nothing here changes what a member becomes beyond rounding."""

    chunk: int = 0  # members per program; 0 = by backend
    axis: str = "vmap"  # vmap | map
    loop: str = "auto"  # scan (loop on the device) | host | auto
    store: Path | None = None  # where finished chunks are kept
    progress: Callable[[float, int], None] | None = None  # (members done, examples processed)
    label: str = ""  # written beside the stored chunk


DEFAULTS = Options()


class Carry(NamedTuple):
    """What the loop carries for one member."""

    state: PyTree
    loss: Array  # (POINTS,)


class _Member(NamedTuple):
    """What is fixed for one member while it trains."""

    key: Array
    tables: Tables
    hp: dict[str, Array]


class _Steps(NamedTuple):
    """The plan's columns as arrays."""

    phase: Array
    forget_step: Array
    retain_step: Array
    rate: Array
    total: Array  # () live rows; the columns are padded so that plans of similar length share a program


def _columns(plan: Plan) -> _Steps:
    """The plan's columns, padded to a power of two."""
    length = max(64, 1 << max(plan.steps - 1, 0).bit_length())
    pad = lambda x, dtype: jnp.asarray(np.pad(x, (0, length - plan.steps)), dtype)
    whole = [pad(x, jnp.int32) for x in (plan.phase, plan.forget_step, plan.retain_step)]
    return _Steps(*whole, pad(plan.rate, jnp.float32), jnp.int32(max(plan.steps, 1)))


def _draw(key: Array, step: Array, table: Array, count: Array, size: int, weight, data: Stored, augment) -> Batch:
    """The batch of one stream: rows by the data order, inputs gathered by row."""
    index = table[positions(jax.random.fold_in(key, 0), step, size, count)]
    inputs = data.inputs[index]
    if augment is not None and size:
        inputs = augment(jax.random.fold_in(jax.random.fold_in(key, 1), step), inputs)
    live = jnp.full((size,), 1.0, jnp.float32) if weight is None else weight[index]
    return Batch(inputs, data.targets[index], jnp.where(count > 0, live, 0.0), index)


def _programs(fold: Fold, forget_batch: int, retain_batch: int) -> tuple[Callable, Callable, Callable]:
    """``begin``, ``advance`` (one update) and ``end`` for one member, as functions of (own, common)."""

    def begin(own, common):
        member, variables = own
        state = fold.build(member.hp, common).init(jax.random.fold_in(member.key, 0), variables)
        return Carry(state, jnp.full((POINTS,), jnp.nan, jnp.float32))

    def advance(t, carry, member, data, steps, shared):
        key, tables = member.key, member.tables
        forget = _draw(
            jax.random.fold_in(key, 1), steps.forget_step[t], tables.requested, tables.requested_count,
            forget_batch, tables.weight, data, fold.augment,
        )  # fmt: skip
        retain = _draw(
            jax.random.fold_in(key, 2), steps.retain_step[t], tables.kept, tables.kept_count,
            retain_batch, tables.weight, data, fold.augment,
        )  # fmt: skip
        update = fold.build(member.hp, shared).update
        batches = Batches(forget, retain, steps.phase[t], t, steps.rate[t])
        state, loss = update(jax.random.fold_in(jax.random.fold_in(key, 3), t), carry.state, batches)
        slot = (t * POINTS) // steps.total
        return Carry(state, carry.loss.at[slot].set(loss.astype(jnp.float32)))

    def end(own, common):
        carry, hp = own
        return fold.build(hp, common).finish(carry.state), carry.loss

    return begin, advance, end


class _Compiled(NamedTuple):
    """The programs of one fold at one chunk width."""

    begin: Callable
    advance: Callable  # (carry, member, start, stop, ...) or, in a host loop, one update
    end: Callable
    host_loop: bool
    digest: str
    seconds: float


_CACHE: dict = {}


def _abstract(tree: PyTree) -> tuple:
    """What identifies the shapes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((x.shape, str(x.dtype)) for x in map(jnp.asarray, leaves))


def _compile(fold: Fold, plan: Plan, options: Options, member, variables, data, steps, shared) -> _Compiled:
    """Lower and compile the three programs once per fold and shapes."""
    mesh = member_mesh()
    shapes = (_abstract((member, variables, data, steps, shared)), plan.forget_batch, plan.retain_batch)
    cached = _CACHE.get((fold, options.axis, options.loop, mesh.size, shapes))
    if cached is not None:
        return cached._replace(seconds=0.0)
    started = time.perf_counter()
    begin, advance, end = _programs(fold, plan.forget_batch, plan.retain_batch)

    def scanned(own, common):
        (carry, member), (start, stop, *rest) = own, common
        return lax.fori_loop(start, stop, lambda t, c: advance(t, c, member, *rest), carry)

    def single(own, common):
        (carry, member), (start, _, *rest) = own, common
        return advance(start, carry, member, *rest)

    split, whole = member_shardings(mesh)

    def lowered(fn, donate, *args):
        def call(first, second, common):
            return over_members(fn, options.axis, mesh)((first, second), common)

        jitted = jax.jit(call, donate_argnums=donate, in_shardings=(split, split, whole), out_shardings=split)
        return jitted.lower(*args)

    zero = jnp.int32(0)
    first = lowered(begin, (), member, variables, shared)
    carry = first.out_info
    common = (zero, zero, data, steps, shared)
    loop = lowered(scanned, (0,), carry, member, common)
    convolves = jax.default_backend() == "cpu" and "stablehlo.convolution" in loop.as_text()
    host_loop = options.loop == "host" or (options.loop == "auto" and convolves)  # see the docs: slow in a CPU loop
    if host_loop:
        loop = lowered(single, (0,), carry, member, common)
    last = lowered(end, (), carry, member.hp, shared)
    digest = checkpoint.digest_of(first.as_text(), loop.as_text(), last.as_text())
    compiled = _Compiled(first.compile(), loop.compile(), last.compile(), host_loop, digest, 0.0)
    _CACHE[(fold, options.axis, options.loop, mesh.size, shapes)] = compiled
    return compiled._replace(seconds=time.perf_counter() - started)


def _train_chunk(program: _Compiled, plan: Plan, member, variables, data, steps, shared, tick) -> tuple:
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
    """Members per compiled program: the asked or the backend's width, a multiple of the devices."""
    devices = len(jax.devices())
    width = min(options.chunk or (16 if jax.default_backend() == "cpu" else 64), members)
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
    own, shared = trees.split_shared(variables)
    split, everywhere = member_shardings(member_mesh())
    examples = _fingerprint(data) if options.store is not None else ""
    data, steps, shared = jax.device_put((data, _columns(plan), shared), everywhere)
    whole = _Member(keys, tables, {k: jnp.asarray(v, jnp.float32) for k, v in (hp or {}).items()})
    width, parts, seconds, compiling = chunk_width(members, options), [], 0.0, 0.0
    for start in range(0, members, width):
        rows = np.minimum(np.arange(start, start + width), members - 1)
        chunk = jax.device_put(trees.take_members({"member": whole, "begin": own}, rows), split)
        common = (data, steps, shared)
        program = _compile(fold, plan, options, chunk["member"], chunk["begin"], *common)
        live = min(width, members - start)
        tick = _ticker(options, plan, start, live)
        done = _train_or_load(program, plan, options, chunk, common, tick, start, examples)
        tick(1.0)
        compiling += program.seconds
        seconds += float(done["seconds"])
        parts.append(trees.take_members({"variables": done["variables"], "loss": done["loss"]}, slice(live)))
    result = trees.join_members([part["variables"] for part in parts]) | ({"shared": shared} if shared else {})
    return Population(result, np.concatenate([part["loss"] for part in parts]), seconds / members, compiling)


def _ticker(options: Options, plan: Plan, start: int, live: int) -> Callable[[float], None]:
    """Progress of one chunk as a function of the share of its updates done."""

    def tick(fraction: float) -> None:
        if options.progress is not None:
            examples = plan.steps * (plan.forget_batch + plan.retain_batch) * live
            options.progress(start + fraction * live, int(fraction * examples))

    return tick


def _train_or_load(
    program: _Compiled, plan: Plan, options: Options, chunk, common, tick, start: int, examples: str
) -> dict:
    """One chunk's variables, losses and seconds: from the store where it is there, else trained and stored."""
    digest = ""
    if options.store is not None:
        digest = checkpoint.digest_of(program.digest, examples, chunk, *common[1:])
        found = checkpoint.load_chunk(options.store, digest)
        if found is not None:
            return found
    clock = time.perf_counter()
    result, loss = _train_chunk(program, plan, chunk["member"], chunk["begin"], *common, options.progress and tick)
    done = {"variables": result, "loss": loss, "seconds": np.float64(time.perf_counter() - clock)}
    done = jax.tree.map(np.asarray, done)
    if options.store is not None:
        checkpoint.save_chunk(options.store, digest, done, {"label": options.label, "first_member": start})
    return done


_FINGERPRINT: list = []  # the examples last asked about and their digest; one entry, so that no old data stay alive


def _fingerprint(data: Stored) -> str:
    """Digest of the stored examples, computed once while the same (immutable) arrays come back."""
    known = _FINGERPRINT and all(a is b and isinstance(a, jax.Array) for a, b in zip(_FINGERPRINT[0], data))
    if not known:
        _FINGERPRINT[:] = [data, checkpoint.digest_of(data)]
    return _FINGERPRINT[1]
