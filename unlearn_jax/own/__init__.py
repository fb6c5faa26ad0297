"""Unlearning on a model that is trained already: one call, no study, no folder on disk."""
