"""Pruning: weights that are zero in patterns which devices multiply faster."""
