"""Floats that become bytes in each run, each row by its own range, and products of such rows."""
