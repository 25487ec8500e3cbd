"""Pruning: weights that are zero in patterns that devices multiply faster, and files without these zeros."""

from mace_core.sparsity.patterns import Pattern
from mace_core.sparsity.pruning import PrunedLayer, Pruner, Pruning, prune

__all__ = ["Pattern", "PrunedLayer", "Pruner", "Pruning", "prune"]
