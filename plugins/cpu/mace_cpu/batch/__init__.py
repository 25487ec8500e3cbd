"""Stretches of a graph that are computed for one row of the batch after the other."""
