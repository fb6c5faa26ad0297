"""How a population is run: chunks, member axis, devices, store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from unlearn_jax.population.sharding import member_groups


class Options(NamedTuple):
    """How a population is run.

    Nothing here changes what is computed, but ``chunk``, ``axis``, ``conv`` and the devices change the order of sums,
    and so the last bits of a member after an update. Training multiplies that: after hundreds of updates a single
    member's margins differ by tenths of a nat (docs/scaling.md), as with another seed, while the population's mean
    hardly moves. The same settings on the same devices give the same bits.
    """

    chunk: int = 0  # members per program; 0 = by backend
    axis: str = "vmap"  # vmap | map
    data_devices: int = 1  # devices that hold one member together, and share its batches
    loop: str = "auto"  # scan (loop on the device) | host | auto
    store: Path | None = None  # where finished chunks are kept
    save_every: float = 10.0  # minutes between two times that a chunk in training is kept; 0 = only when stopped
    progress: Callable[[float, int], None] | None = None  # (members done, examples processed)
    phase: Callable[[str], None] = lambda doing: None  # compiling, reading the store, training
    conv: str = ""  # conv | im2col, where it was measured; '' = by platform and width
    label: str = ""  # written beside the stored chunk
    belongs_to: str = ""  # likewise; says to which study it belongs


DEFAULTS = Options()


def part_size(members: int, options: Options) -> int:
    """Members that are stored together: the asked chunk or one by backend, whatever the devices."""
    return min(options.chunk or (16 if jax.default_backend() == "cpu" else 64), members)


def chunk_width(members: int, options: Options) -> int:
    """Members per compiled program: the asked width or one by backend, a multiple of the groups of devices used.

    By backend it is 16 on a CPU, whose devices are its cores, and 64 an accelerator, at least what is stored together;
    a run takes fewer where so many do not fit into memory.
    """
    width = part_size(members, options)
    if not options.chunk and jax.default_backend() != "cpu":
        width = min(width * member_groups(members, options.data_devices), members)
    groups = member_groups(width, options.data_devices)
    return -(-width // groups) * groups
