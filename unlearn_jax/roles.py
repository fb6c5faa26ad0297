"""The populations that others are held against: their names, their order, and what further ones are like."""

from __future__ import annotations

REFERENCES = ("original", "retrain", "oracle", "placebo", "dedup")  # trained from scratch, in this order in tables
LIKE = {"null": "oracle", "null_b": "oracle", "null_c": "oracle", "retrain_b": "retrain", "retrain_c": "retrain"}
"""Further populations and the reference that each is another one of; for null bands, never scored by a study."""
NULLS = tuple(LIKE)
INNER = ("oracle_b", "pilot", "base")  # what methods, the choice of targets and adapters have trained for themselves
