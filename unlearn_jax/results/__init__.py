"""Tidy records of a run: one schema, one writer."""
