"""Data sets, one per file, and how they are read and prepared."""
