"""Tests of the contract share the stand-ins for devices of the scheduler's."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "scheduler")]
