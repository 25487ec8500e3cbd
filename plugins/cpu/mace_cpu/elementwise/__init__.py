"""Operators that work element by element, fused into chains."""
