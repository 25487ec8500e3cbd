"""What lowerings have to know of tiles, apart from their generator so that they need not import llvmlite."""

from __future__ import annotations

STEPS_PER_FETCH = 16
"""Memory that is needed later is asked for once in so many steps."""

MOST_KEPT = 0.8
"""A tile that looks its steps up must leave out so many that this share of them is left."""
