"""Attention, as an operator and as exporters write it."""
