"""The toy study of `unlearn_jax.testing`, by the name that the tests know it by."""

from unlearn_jax.testing.toy import *  # noqa: F403
from unlearn_jax.testing.toy import _alone, _draw  # noqa: F401
