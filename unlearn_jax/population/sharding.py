"""Where members lie: a mesh ``member`` without any collective, and ``data``, devices that hold one member together.

``member``: vmap or one after another within a device, split over devices by `shard_map`, so that none talks to another.
``data`` (only on request): a member's weights and whatever is shaped like them are split over K devices, and so is each
batch. This axis is left to the compiler: inside the `shard_map` over ``member`` it stays automatic, the loop's state is
held to its placement by constraints, and XLA gathers weights and reduces gradients where it needs to. So methods are
written for one member on one device whatever holds it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.multihost import several
from unlearn_jax.runtime.platform import platform as this_platform
from unlearn_jax.types import PyTree

WIDE = 1e8  # forward floating-point operations per example above which one member fills an accelerator
WIDE_CPU = 1e6  # and above which members side by side no longer fit a core's cache
SMALL = 2**10  # entries below which a weight stays whole on every device that holds its member


def devices() -> list[jax.Device]:  # pyright: ignore[reportInvalidTypeForm]
    """The devices of all processes."""
    return jax.devices()


def check_data_devices(data_devices: int) -> None:
    """Raise `InputError` where the devices cannot be grouped by ``data_devices``."""
    have = len(devices())
    if data_devices < 1 or have % data_devices:
        fit = [k for k in range(1, have + 1) if have % k == 0]
        raise InputError(
            f"--data-devices is {data_devices} and there are {have} devices: give {', '.join(map(str, fit))}."
        )


def member_groups(members: int, data_devices: int = 1) -> int:
    """Groups of ``data_devices`` devices that share ``members``: as many as there are, none idle on padding.

    Of several processes each needs a part of the mesh, so that all devices are used.
    """
    check_data_devices(data_devices)
    have = len(devices()) // data_devices
    return have if several() else min(have, members)


def member_mesh(members: int, data_devices: int = 1) -> Mesh:
    """A mesh ``member`` over the devices, or over as many as there are members; with ``data_devices`` x ``data``.

    The devices of a group are neighbours in JAX's order, hence of one host where a host has enough.
    """
    groups = member_groups(members, data_devices)
    used = np.asarray(devices()[: groups * data_devices])
    if data_devices == 1:
        return Mesh(used, ("member",))
    return Mesh(used.reshape(groups, data_devices), ("member", "data"))


def member_shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Placement of what has a leading member axis, and of what every device needs whole."""
    return NamedSharding(mesh, PartitionSpec("member")), NamedSharding(mesh, PartitionSpec())


def data_size(mesh: Mesh) -> int:
    """Devices that hold one member together."""
    return mesh.shape.get("data", 1)


def data_spec(shape: tuple[int, ...], size: int) -> PartitionSpec:
    """Placement of one weight over ``size`` devices: split along its longest dimension that they divide, else whole."""
    fit = [i for i, length in enumerate(shape) if length % size == 0]
    if size == 1 or not fit or int(np.prod(shape)) < SMALL:
        return PartitionSpec()
    longest = max(fit, key=lambda i: shape[i])
    return PartitionSpec(*[None] * longest, "data")


def weight_shardings(mesh: Mesh, tree: PyTree, *, members: bool = True) -> PyTree:
    """Placement of weights and what is shaped like them, leaf by leaf; one for all where members are not split.

    Args:
        mesh: of `member_mesh`.
        tree: arrays or their shapes.
        members: whether they have a leading member axis.
    """
    if data_size(mesh) == 1:
        return member_shardings(mesh)[0 if members else 1]
    lead = ("member",) if members else ()
    place = lambda x: NamedSharding(mesh, PartitionSpec(*lead, *_spec_of(x, x.shape[len(lead) :], data_size(mesh))))
    return jax.tree.map(place, tree)


def _spec_of(x, shape: tuple[int, ...], size: int) -> PartitionSpec:
    """Placement of one leaf; typed keys stay whole."""
    return PartitionSpec() if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else data_spec(shape, size)


def hold_weights(tree: PyTree, mesh: Mesh) -> PyTree:
    """One member's weights, held to their placement inside `over_members`; unchanged where members are not split."""
    size = data_size(mesh)
    if size == 1:
        return tree
    return jax.tree.map(lambda x: lax.with_sharding_constraint(x, _spec_of(x, x.shape, size)), tree)


def split_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """One member's batch, each device of ``data`` with its share; unchanged where they do not divide it."""
    size = data_size(mesh)
    fits = lambda x: size > 1 and x.ndim > 0 and x.shape[0] > 0 and x.shape[0] % size == 0
    spread = lambda x: lax.with_sharding_constraint(x, PartitionSpec("data")) if fits(x) else x
    return jax.tree.map(spread, tree)


def choose_axis(flops: float, platform: str | None = None, *, tokens: bool = False) -> str:
    """``vmap`` or ``map``, as measured (docs/performance.md).

    Args:
        flops: forward operations of the model on one example.
        platform: cpu, gpu or tpu; None = where the program will run.
        tokens: whether it reads tokens: on accelerators transformers batch over members at any size.
    """
    platform = platform or this_platform()
    if tokens and platform != "cpu":
        return "vmap"
    return "map" if flops >= (WIDE_CPU if platform == "cpu" else WIDE) else "vmap"


def over_members(fn: Callable, axis: str, mesh: Mesh) -> Callable:
    """Add the member axis to ``fn(own, common)``.

    Args:
        fn: function of one member's pytree ``own`` and the pytree ``common`` to all members.
        axis: ``vmap`` (members side by side) or ``map`` (one after another inside the program).
        mesh: devices over which the leading axis is split; along ``member`` no device talks to another.

    Returns:
        The function of (own stacked along a leading axis, common), with outputs stacked likewise.
    """
    if axis == "vmap":
        several = jax.vmap(fn, in_axes=(0, None))
    elif axis == "map":
        several = lambda own, common: lax.map(lambda one: fn(one, common), own)
    else:
        raise InputError(f"unknown member axis '{axis}': choose auto, map or vmap.")

    def mapped(own, common):
        if {leaf.shape[0] for leaf in jax.tree.leaves(own)} != {1}:
            return several(own, common)
        alone = fn(jax.tree.map(lambda x: x[0], own), common)  # a plain program is faster than an axis or loop of one
        return jax.tree.map(lambda x: x[None], alone)

    if mesh.size == 1:
        return mapped
    members, every = PartitionSpec("member"), PartitionSpec()
    specs = {"in_specs": (members, every), "out_specs": members, "axis_names": {"member"}}
    return jax.shard_map(mapped, mesh=mesh, check_vma=False, **specs)
