"""Texts: tokenizers, featurizers, edits and measures."""
