"""The toy's job and context, by the name that the tests know them by."""

from unlearn_jax.testing.protocol import *  # noqa: F403
