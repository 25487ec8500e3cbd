"""What the kernel of trees and its lowering agree on, apart from the kernel so that planning needs no numba."""

from __future__ import annotations

BLOCK = 64
"""Rows that go through one tree before the next one, whose nodes stay in cache meanwhile."""

MISSING = 8
"""Added to the number of a comparison: NaN follows the branch."""
