"""Training many members in one compiled program: keys, data order, chunks, devices, checkpoints."""
