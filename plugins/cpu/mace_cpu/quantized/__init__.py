"""Quantized operators, and weights stored in few bits."""
