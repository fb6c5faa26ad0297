"""What tests of sweeps share."""

from made_runs import unsaved  # noqa: F401
