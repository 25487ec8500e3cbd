"""Tensors made from few numbers, and sums along an axis."""
