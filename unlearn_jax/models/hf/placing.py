"""Where the parameters of a large model lie on a mesh with axes ``fsdp`` and ``tensor``.

``tensor`` splits heads and the inside of the MLP, so that each device computes its share of a layer [Shoeybi et al.,
2019, arXiv 1909.08053]; ``fsdp`` splits the other side of every weight, which is gathered where it is used
[Rajbhandari et al., 2020, arXiv 1910.02054]. The compiler does both, from where the arguments lie. A mesh may have
more axes, such as ``member``, over which the base is held whole.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unlearn_jax.types import Array

AXES = ("fsdp", "tensor")
NARROWING = ("out", "down")  # layers that read what is split over ``tensor``


def sharded(mesh: Mesh) -> Callable[[tuple[str, ...], np.ndarray], Array]:
    """The argument ``place`` of `load_hf` that lays every parameter on a mesh; none is ever whole on one device.

    Example:
        >>> mesh = Mesh(np.array(jax.devices()).reshape(2, 2), AXES)  # doctest: +SKIP
        >>> model, variables = load_hf("models/llama", "bfloat16", place=sharded(mesh))  # doctest: +SKIP
    """
    return lambda path, array: jax.device_put(array, NamedSharding(mesh, partition(path, array.shape, mesh)))


def partition(path: tuple[str, ...], shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How one parameter is split: by the axes that the mesh has and that divide the parameter's sides."""
    *_, layer, leaf = ("", *path)
    if leaf == "kernel":
        wanted = AXES[::-1] if layer in NARROWING else AXES
    elif leaf in ("embed", "positions"):
        wanted = AXES[::-1]
    elif leaf == "bias" and layer not in (*NARROWING, "norm", "norm1", "norm2"):
        wanted = AXES[1:]
    else:
        wanted = ()
    fits = lambda axis, side: axis in mesh.shape and side % mesh.shape[axis] == 0
    return PartitionSpec(*(axis if fits(axis, side) else None for axis, side in zip(wanted, shape)))
