"""Makes ``lite_models`` importable for the tests in this folder whatever way pytest imports them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
