"""The fixtures of the tests of the command line: models, and the `mace` command."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_source = Path(__file__).parents[1] / "cli" / "conftest.py"
_spec = importlib.util.spec_from_file_location("cli_fixtures", _source)
assert _spec is not None and _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _fixtures
_spec.loader.exec_module(_fixtures)

commands, mace, model = _fixtures.commands, _fixtures.mace, _fixtures.model
