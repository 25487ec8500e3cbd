"""What lowerings have to know of tiles, apart from their generator so that they need not import llvmlite."""

from __future__ import annotations

STEPS_PER_FETCH = 16
"""Memory that is needed later is asked for once in so many steps."""

STEPS_BETWEEN_FETCHES = 64
"""The same for as many steps at once, where a loop of more turns would cost more than it spreads them."""

MOST_KEPT = 0.8
"""A tile that looks its steps up must leave out so many that this share of them is left."""
