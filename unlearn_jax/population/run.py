"""The one runner: a fold, a plan and N members in, N trained members out.

Chunks of members go through one compiled program each: ``init``, a loop over the plan, ``finish``. Everything that
differs between members (key, index tables, starting variables, numeric hyperparameters) has a leading axis;
everything else (data, plan, weights under ``shared``) is common. Members that were trained before, by the same
method on the same inputs, are read back from the store instead. They are kept there in parts whose size depends on no
device: a run that goes on with other devices or hosts finds what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unlearn_jax import trees
from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint, compiling, memory, resume
from unlearn_jax.population.compiling import Compiled, for_many
from unlearn_jax.population.members import Tables
from unlearn_jax.population.options import DEFAULTS, Options, chunk_width, part_size
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.program import Fold, Member, Stored, columns, for_one, named
from unlearn_jax.population.sharding import member_groups, member_mesh, member_shardings, weight_shardings
from unlearn_jax.runtime import disk, multihost, signals
from unlearn_jax.types import Array, Population, PyTree

SEGMENTS = 20  # calls of the compiled loop per chunk, for progress


def train_chunk(program: Compiled, plan: Plan, member, variables, data, steps, shared, tick, place=None) -> tuple:
    """Run one chunk to its end: variables, losses, and the seconds that training took; everything is trained here.

    ``tick(fraction)`` after each segment; ``place`` is where the state is kept meanwhile.
    """

    def advance(carry, start: int, stop: int):
        for first in range(start, stop) if program.host_loop else (start,):
            bounds = np.int32(first), np.int32(first + 1 if program.host_loop else stop)
            carry = program.advance(carry, member, (*bounds, data, steps, shared))
        return carry

    clock = time.perf_counter()
    carry = program.begin(member, variables, shared)
    carry, aside = resume.follow(advance, carry, plan.steps, SEGMENTS, place, tick)
    result, loss = jax.block_until_ready(program.end(carry, member.hp, shared))
    return result, loss, time.perf_counter() - clock + aside


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
        The population, on the host; on every host where there are several, which all make this call.

    Raises:
        InputError: no member; devices that cannot be grouped as asked; hosts that differ in what they run.
    """
    members = keys.shape[0]
    if members < 1:
        raise InputError("members is 0: ask for at least 1.")
    initial, shared = trees.split_shared(variables)
    numeric = {k: jnp.asarray(v, jnp.float32) for k, v in (hp or {}).items()}
    begin = {"member": Member(keys, tables, numeric), "begin": initial}
    job = _Job(fold, plan, begin, (data, columns(plan), shared), options)
    options.phase("compiling")
    done, todo, compile_seconds = _read_back(job, members)
    compile_seconds += _train(job, members, todo, done) if todo else 0.0
    parts = [done[start] for start in sorted(done)]
    result = trees.join_shared(trees.join_members([part["variables"] for part in parts]), shared)
    seconds = sum(float(part["seconds"]) for part in parts)
    return Population(result, np.concatenate([part["loss"] for part in parts]), seconds / members, compile_seconds)


class _Job(NamedTuple):
    fold: Fold
    plan: Plan
    whole: dict[str, PyTree]  # member and begin, with a leading axis
    common: tuple  # (data, steps, shared weights)
    options: Options


def _ticker(job: _Job, first: int, live: int) -> Callable[..., None]:
    """Progress of ``live`` members after ``first`` as a function of the share of their updates done."""

    def tick(fraction: float) -> None:
        if job.options.progress is not None:
            examples = job.plan.steps * (job.plan.forget_batch + job.plan.retain_batch) * live
            job.options.progress(first + fraction * live, int(fraction * examples))

    return tick


def _read_back(job: _Job, members: int) -> tuple[dict[int, dict], dict[int, str], float]:
    """What the store has and what is to be trained.

    Returns:
        Parts by first member; digests of the missing parts by first member; seconds spent lowering.
    """
    size, options = part_size(members, job.options), job.options
    if options.store is None:
        return {}, dict.fromkeys(range(0, members, size), ""), 0.0
    whole = (job.whole["member"], job.whole["begin"])
    fold, lowering = named(job.fold, job.plan, whole, job.common)
    options.phase("reading the store")
    common, done, todo, read = checkpoint.digest_of(*job.common[1:]) + _fingerprint(job.common[0]), {}, {}, 0
    for start in range(0, members, size):
        rows = np.arange(start, min(start + size, members))
        part = trees.take_members(job.whole, rows)
        digest = checkpoint.digest_of(fold.digest, common, part["member"], part["begin"])
        multihost.assert_equal(digest, f"program or input of '{options.label}'")
        held = _load(options.store, digest, fold.result, len(rows))
        if held is None:
            todo[start] = digest
        else:
            done[start], read = held, read + len(rows)
            resume.forget(options.store, digest)
            if options.progress is not None:
                options.progress(read, 0)  # what is read back counts no examples
    return done, todo, lowering


def _load(store: Path, digest: str, result: PyTree, members: int) -> dict | None:
    """One part from the store, which process 0 alone reads; None where it is not there."""
    part = checkpoint.load_chunk(store, digest) if multihost.is_first() else None
    if not multihost.from_process_zero(lambda: part is not None):
        return None
    variables, loss = for_many(result, members)
    return multihost.broadcast(part, {"variables": variables, "loss": loss, "seconds": np.float64(0)})


def _train(job: _Job, members: int, todo: dict[int, str], done: dict[int, dict]) -> float:
    """Train the missing parts, each added to ``done`` and stored as soon as it is whole; seconds compiling."""
    size, options = part_size(members, job.options), job.options
    left = {start: min(size, members - start) for start in todo}
    rows = np.concatenate([np.arange(start, start + count) for start, count in left.items()])
    width = chunk_width(members, options)
    options.phase("compiling")
    program, width, mesh, compile_seconds = _compiled(job, width)
    options.phase("training")
    everywhere = member_shardings(mesh)[1]
    base = multihost.placed(job.common[2], weight_shardings(mesh, job.common[2], members=False))
    common, held = (*multihost.placed(job.common[:2], everywhere), base), None
    for first in range(0, len(rows), width):
        live = min(width, len(rows) - first)
        at = rows[np.minimum(np.arange(first, first + width), len(rows) - 1)]
        tick, place = _ticker(job, members - len(rows) + first, live), _place(options, todo, size, at[:live])
        with signals.held():
            new = trees.take_members(_train_rows(program, job, mesh, common, at, tick, place), slice(live))
            new["seconds"] = new["seconds"] / live  # padding is not a member
            held = new if held is None else trees.join_members([held, new])
            while left and len(held["loss"]) >= next(iter(left.values())):
                start = next(iter(left))
                count = left.pop(start)
                done[start], held = _cut(held, count)
                _save(options, todo[start], done[start], start)
            resume.clear(place)
        tick(1.0)
    return compile_seconds


def _compiled(job: _Job, width: int) -> tuple[Compiled, int, Mesh, float]:
    """The programs at a width, or, where none was asked for, at the largest up to it that fits into memory.

    Returns:
        The programs; their width and mesh; seconds spent lowering and compiling.
    """
    options, spent = job.options, []

    def make(members: int) -> tuple[Compiled, Mesh]:
        mesh = member_mesh(members, options.data_devices)
        shapes = for_many(for_one((job.whole["member"], job.whole["begin"])), members)
        how = (mesh, options.axis, options.loop)
        lowered, lowering = compiling.lower(job.fold, job.plan, *how, shapes, job.common, conv=options.conv)
        program, waited = compiling.compiled(lowered)
        spent.append(lowering + waited)
        return program, mesh

    needed = lambda made: 0.0 if options.chunk else memory.needed_bytes(*made[0][:3])
    (program, mesh), width = memory.fitting(width, member_groups(width, options.data_devices), make, needed)
    return program, width, mesh, sum(spent)


def _place(options: Options, todo: dict[int, str], size: int, at: np.ndarray) -> resume.Place | None:
    """Where the state of members ``at`` is kept while they train; the same whatever devices they are on."""
    if options.store is None:
        return None
    parts = [todo[start] for start in dict.fromkeys((at // size * size).tolist())]
    return resume.Place(options.store, resume.name_of(parts, at), options.save_every, len(at))


def _train_rows(program: Compiled, job: _Job, mesh, common: tuple, at: np.ndarray, tick, place) -> dict:
    """Train members ``at`` in one program: variables, losses and seconds, each with a leading axis, on the host."""
    split, chunk = member_shardings(mesh)[0], trees.take_members(job.whole, at)
    member = multihost.placed(chunk["member"], split)
    begin = multihost.placed(chunk["begin"], weight_shardings(mesh, chunk["begin"]))
    multihost.barrier()
    tick = job.options.progress and tick
    data, steps, shared = common
    result, loss, seconds = train_chunk(program, job.plan, member, begin, data, steps, shared, tick, place)
    trained = multihost.gathered({"variables": result, "loss": loss})
    return trained | {"seconds": np.full(len(at), seconds)}


def _cut(held: dict, count: int) -> tuple[dict, dict]:
    """The first ``count`` members as they are stored, with the sum of their seconds, and the others."""
    part = trees.take_members(held, slice(count))
    return part | {"seconds": np.float64(part["seconds"].sum())}, trees.take_members(held, slice(count, None))


def _save(options: Options, digest: str, part: dict, start: int) -> None:
    """Store one part; process 0 does so, and what it cannot do stops all."""
    if (store := options.store) is not None:
        note = {"label": options.label, "first_member": start, "study": options.belongs_to}
        save = lambda: checkpoint.save_chunk(store, digest, part, note)
        multihost.from_process_zero(lambda: disk.patiently(save, float(part["seconds"])))


_FINGERPRINT: list = []  # the examples last asked about and their digest; one entry, so that no old data stay alive


def _fingerprint(data: Stored) -> str:
    """Digest of the stored examples, computed once while the same (immutable) arrays come back."""
    same = _FINGERPRINT and all(a is b and isinstance(a, jax.Array) for a, b in zip(_FINGERPRINT[0], data))
    if not same:
        _FINGERPRINT[:] = [data, checkpoint.digest_of(data)]
    return _FINGERPRINT[1]
