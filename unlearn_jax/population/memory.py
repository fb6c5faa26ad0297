"""What a process has room for: members in a device's memory, by the programs' own account, and compiled programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import jax

from unlearn_jax.errors import InputError
from unlearn_jax.runtime import multihost

SHARE = 0.9  # of what is free that programs may take; the rest is fragments, and what others ask for meanwhile
MEMINFO, MAPS, MAX_MAPS = map(Path, ("/proc/meminfo", "/proc/self/maps", "/proc/sys/vm/max_map_count"))


def free_bytes() -> float:
    """Bytes that one device has free; infinity where it does not say. CPU devices share what the host has available."""
    local = jax.local_devices()
    stats = local[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if local[0].platform != "cpu":
        return float("inf")
    try:
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024 / len(local)
    except (OSError, KeyError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / len(local)
    except (AttributeError, OSError, ValueError):
        return float("inf")


def needed_bytes(*programs: jax.stages.Compiled) -> float:
    """Bytes that the largest of the programs holds on one device while it runs; 0 where the backend does not say."""
    most = 0.0
    for program in programs:
        analysis = program.memory_analysis()
        if analysis is not None:
            both = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
            most = max(most, float(both + analysis.temp_size_in_bytes))
    return most


def crowded() -> bool:
    """Whether this process holds three quarters of the memory maps that the system gives it; only Linux counts them.

    A compiled program holds 5 to 300 of some 65,530, and XLA ends a process that has none left for the next one.
    """
    try:
        return MAPS.read_bytes().count(b"\n") > int(MAX_MAPS.read_text()) * 3 // 4
    except (OSError, ValueError):
        return False


def fitting(width: int, groups: int, make: Callable[[int], tuple], measure: Callable[[tuple], float]) -> tuple:
    """The programs of the largest width up to ``width`` that fits, with that width.

    Args:
        width: members in a program, a multiple of ``groups``.
        groups: groups of devices that share them.
        make: width -> programs, compiled.
        measure: programs -> bytes that they need on one device.

    Returns:
        (programs, width); several processes take the same. Memory grows about in proportion to the members, so a second
        try is mostly the last.

    Raises:
        InputError: not even one member fits.
    """
    while True:
        made = make(width)
        needed, free = measure(made), SHARE * free_bytes()
        share = multihost.largest(needed / max(free, 1.0))
        if share <= 1.0:
            return made, width
        if width == groups:
            raise InputError(
                f"one member needs {needed / 1e9:.2g} GB of memory and {free / 1e9:.2g} are free: give a smaller "
                f"--batch or model, or --data-devices, over which a member is split."
            )
        each = min(width // groups // 2, int(width / groups / share))
        width = groups * (1 << max(each, 1).bit_length() - 1)
