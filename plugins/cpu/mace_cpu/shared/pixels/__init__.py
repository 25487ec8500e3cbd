"""Reductions over all pixels of a channel."""
