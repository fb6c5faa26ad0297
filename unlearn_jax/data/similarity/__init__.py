"""Similar samples: made copies, mined neighbours, near-duplicates."""
