"""The member axis: vmap or one after another within a device, split over devices without any collective."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unlearn_jax.errors import InputError

WIDE = 1e8  # forward floating-point operations per example above which one member fills an accelerator
WIDE_CPU = 1e6  # and above which members side by side no longer fit a core's cache


def member_mesh(members: int) -> Mesh:
    """A one-dimensional mesh ``member`` over the devices, or over as many as there are members."""
    return Mesh(np.asarray(jax.devices()[:members]), ("member",))


def member_shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Placement of what has a leading member axis, and of what every device needs whole."""
    return NamedSharding(mesh, PartitionSpec("member")), NamedSharding(mesh, PartitionSpec())


def choose_axis(flops: float, platform: str | None = None) -> str:
    """``vmap`` or ``map`` for a model of ``flops`` forward operations an example, as measured (docs/performance.md)."""
    platform = platform or jax.default_backend()
    return "map" if flops >= (WIDE_CPU if platform == "cpu" else WIDE) else "vmap"


def over_members(fn: Callable, axis: str, mesh: Mesh) -> Callable:
    """Add the member axis to ``fn(own, common)``.

    Args:
        fn: function of one member's pytree ``own`` and the pytree ``common`` to all members.
        axis: ``vmap`` (members side by side) or ``map`` (one after another inside the program).
        mesh: devices over which the leading axis is split; no device talks to another.

    Returns:
        The function of (own stacked along a leading axis, common), with outputs stacked likewise.
    """
    if axis == "vmap":
        mapped = jax.vmap(fn, in_axes=(0, None))
    elif axis == "map":
        mapped = lambda own, common: lax.map(lambda one: fn(one, common), own)
    else:
        raise InputError(f"unknown member axis '{axis}': choose auto, map or vmap.")
    if mesh.size == 1:
        return mapped
    members, every = PartitionSpec("member"), PartitionSpec()
    return jax.shard_map(mapped, mesh=mesh, in_specs=(members, every), out_specs=members, check_vma=False)
