"""Phases of a method that each follow their own loss by their own optimizer."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax

from unlearn_jax.methods.support.common import Trained, follow
from unlearn_jax.types import Array


def staged(optimizers: list[optax.GradientTransformation], losses: list[Callable]) -> tuple[Callable, list[Callable]]:
    """Phases that each follow their own loss by their own optimizer.

    Returns:
        ``params -> `` the tuple of optimizer states for ``Trained.optimizer``, and one branch per loss.
    """

    def branch(i: int) -> Callable:
        def update(key: Array, trained: Trained, batches):
            (value, state), grads = jax.value_and_grad(losses[i], has_aux=True)(trained.params, trained, batches, key)
            phase = trained._replace(optimizer=trained.optimizer[i])
            params, moments = follow(optimizers[i], grads, phase, batches.rate)
            kept = (*trained.optimizer[:i], moments, *trained.optimizer[i + 1 :])
            return Trained(params, state, kept, trained.extra), value

        return update

    return lambda params: tuple(o.init(params) for o in optimizers), [branch(i) for i in range(len(losses))]
