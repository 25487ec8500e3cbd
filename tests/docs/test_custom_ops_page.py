"""docs/custom-ops.md shows the example as it is, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "custom-ops.md").read_text(encoding="utf-8")


def test_the_page_shows_the_example_and_its_output() -> None:
    code = re.findall(r"<!-- code: (\S+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL)
    assert code
    for path, text in code:
        assert text == (ROOT / path).read_text(encoding="utf-8")
    outputs = re.findall(r"<!-- output: (\S+) -->\n```\n(.*?)```\n", PAGE, re.DOTALL)
    assert outputs
    for path, text in outputs:
        done = subprocess.run([sys.executable, str(ROOT / path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == text
