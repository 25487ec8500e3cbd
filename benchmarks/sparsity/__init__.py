"""Layers with 2:4 weights beside the same layers with dense ones."""
