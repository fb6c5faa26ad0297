"""What only a model can tell an audit: its answers at perturbed inputs, its features, its gradients, its weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.support.common import TrainSpec, bind_shared
from unlearn_jax.methods.support.parts import attacked, loss_gradient, pixels
from unlearn_jax.trees import split_shared
from unlearn_jax.types import Array, Batch, Variables

DRAWS = 8  # of noise at each radius
KINDS = ("gaussian", "fgm")


def batch_of(inputs, targets) -> Batch:
    """All examples as one batch, every one live."""
    n = len(targets)
    return Batch(jnp.asarray(inputs), jnp.asarray(targets), jnp.ones(n), jnp.arange(n, dtype=jnp.int32))


def by_member(function: Callable, variables: Variables, *common, members: int = 0) -> list:
    """``function(variables of a member, *common)`` for the first members, on the host; all of them for 0."""
    weights, shared = split_shared(variables)
    count = len(jax.tree.leaves(weights)[0])
    results = []
    for i in range(min(members or count, count)):
        one = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), weights)
        results.append(jax.tree.map(np.asarray, function(one, shared, *common)))
    return results


@functools.lru_cache(maxsize=16)
def _noisy(problem: TrainSpec) -> Callable:
    """Probability of the true label at points around each image, mean over the draws; a radius at a time."""

    def at(own: Variables, shared, batch: Batch, radii: Array, noise: Array) -> Array:
        model = bind_shared(problem, shared).model
        images = pixels(batch.inputs)

        def one(radius):
            def draw(total, direction):
                logits = model.apply(own, images + radius * direction, train=False)[0].logits
                return total + jnp.exp(-problem.task.loss(logits, batch)), None

            total, _ = lax.scan(draw, jnp.zeros(len(images), jnp.float32), noise)
            return total / len(noise)

        return lax.map(one, radii)

    return jax.jit(at)


def noisy_recognition(
    problem: TrainSpec,
    variables: Variables,
    batch: Batch,
    radii: np.ndarray | Array,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Probability that members give the true label at noisy images: Gaussian directions of a fixed Euclidean length.

    Args:
        problem: model and task.
        variables: of N members.
        batch: n images and labels.
        radii: (R,) lengths in pixel units of [0, 1].
        draws: of noise, the same for every radius, member and population.
        seed: of the noise.

    Returns:
        (N, R, n) mean probability of the true label.
    """
    noise = np.random.default_rng([seed, 17]).normal(size=(draws, *batch.inputs.shape)).astype(np.float32)
    lengths = np.sqrt((noise**2).sum(axis=tuple(range(2, noise.ndim)), keepdims=True))
    directions, radii = jnp.asarray(noise / lengths), jnp.asarray(radii, jnp.float32)
    return np.stack(by_member(_noisy(problem), variables, batch, radii, directions))


@functools.lru_cache(maxsize=16)
def _towards(problem: TrainSpec) -> Callable:
    """Images moved towards the true label by a member's gradient, and what members of several populations say."""

    def at(own: tuple[Variables, ...], shared, batch: Batch, radii: Array) -> Array:
        bound = bind_shared(problem, shared)

        def one(radius):
            moved = attacked(bound, own[0], batch, radius, 1, towards=batch.targets)
            said = [bound.model.apply(v, moved, train=False)[0].logits for v in own]
            return jnp.stack([jnp.exp(-problem.task.loss(logits, batch)) for logits in said])

        return lax.map(one, radii)

    return jax.jit(at)


def targeted_recognition(
    problem: TrainSpec, variables: Variables, others: list[Variables], batch: Batch, radii: np.ndarray | Array
) -> np.ndarray:
    """Probability that members give the true label where their own gradient leads to it, and others at the same points.

    One step along the gradient of the true label's log-probability, of a fixed Euclidean length (the fast gradient
    method, Goodfellow et al. arXiv 1412.6572, in its Euclidean form); images are not clipped.

    Args:
        problem: model and task.
        variables: of the N members whose gradient is followed.
        others: references; member i is asked at the images of member i.
        batch: n images and labels.
        radii: (R,) lengths in pixel units of [0, 1].

    Returns:
        (1 + len(others), N, R, n) probabilities of the true label, those of ``variables`` first.
    """
    (_, shared), radii = split_shared(variables), jnp.asarray(radii, jnp.float32)
    populations = [split_shared(v)[0] for v in (variables, *others)]
    probabilities = []
    for i in range(min(len(jax.tree.leaves(p)[0]) for p in populations)):
        weights = tuple(jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), p) for p in populations)
        probabilities.append(np.asarray(_towards(problem)(weights, shared, batch, radii)))  # (R, populations, n)
    return np.stack(probabilities).transpose(2, 0, 1, 3)


@functools.lru_cache(maxsize=16)
def _features(problem: TrainSpec) -> Callable:
    def at(own: Variables, shared, inputs) -> Array:
        return bind_shared(problem, shared).model.apply(own, inputs, train=False)[0].features

    return jax.jit(at)


def member_features(problem: TrainSpec, variables: Variables, inputs, *, members: int = 8) -> np.ndarray:
    """Penultimate features of the first members; (n, ...) inputs -> (members, n, D)."""
    return np.stack(by_member(_features(problem), variables, jnp.asarray(inputs), members=members))


@functools.lru_cache(maxsize=16)
def _gradient(problem: TrainSpec) -> Callable:
    def at(own: Variables, shared, batch: Batch) -> Array:
        grads = loss_gradient(bind_shared(problem, shared), own, batch)
        return jnp.concatenate([g.ravel().astype(jnp.float32) for g in jax.tree.leaves(grads)])

    return jax.jit(at)


def flat_gradients(problem: TrainSpec, variables: Variables, batch: Batch, *, members: int = 8) -> np.ndarray:
    """Gradient of the summed loss with respect to all weights, of the first members; (members, P)."""
    return np.stack(by_member(_gradient(problem), variables, batch, members=members))


@functools.lru_cache(maxsize=16)
def _example_gradient(problem: TrainSpec) -> Callable:
    """Gradients of single examples of one member, flat; one after another, so that only they are held."""

    def at(own: Variables, shared, batch: Batch) -> Array:
        bound = bind_shared(problem, shared)

        def one(example):
            grads = loss_gradient(bound, own, jax.tree.map(lambda x: x[None], example))
            return jnp.concatenate([g.ravel().astype(jnp.float32) for g in jax.tree.leaves(grads)])

        return lax.map(one, batch)

    return jax.jit(at)


def example_gradients(problem: TrainSpec, variables: Variables, batch: Batch) -> np.ndarray:
    """Gradient of each example's loss with respect to all weights, of the first member; (n, P)."""
    return by_member(_example_gradient(problem), variables, batch, members=1)[0]


def layers(variables: Variables) -> dict[str, np.ndarray]:
    """The weights by layer name, ``block/kernel``, each with a leading member axis."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables["params"])
    name = lambda path: "/".join(str(getattr(part, "key", part)) for part in path)
    return {name(path): np.asarray(leaf) for path, leaf in leaves}
