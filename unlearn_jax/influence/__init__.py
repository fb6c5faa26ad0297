"""Influence of training examples on predictions, by vectorised gradients and by exact removal."""
