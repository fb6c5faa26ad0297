"""Unlearning on a model that somebody has trained already: one call, no study, no folder on disk."""
