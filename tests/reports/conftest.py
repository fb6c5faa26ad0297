"""What tests of pages share."""

from made_runs import unsaved  # noqa: F401
