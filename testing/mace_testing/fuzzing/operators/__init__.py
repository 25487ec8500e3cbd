"""Strategies, one module per family of operators, each registering what it can draw with `registry.draws`."""
