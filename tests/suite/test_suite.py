"""The tests themselves: each can fail, for the reason it names, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from weaknesses import weaknesses

from mace_core.caching.cache import cache_dir

ROOT = Path(__file__).parents[2]


def modules() -> list[Path]:
    folders = [ROOT / "tests", *ROOT.glob("plugins/*/tests"), *ROOT.glob("examples/*/tests")]
    return sorted(path for folder in folders for path in folder.rglob("test_*.py"))


def test_there_are_tests_of_every_plugin() -> None:
    folders = {path.relative_to(ROOT).parts[:2] for path in modules()}
    assert {("plugins", name) for name in ("apu", "cpu", "hexagon", "npu", "opencl")} < folders


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_can_fail_and_by_no_clock(path: Path) -> None:
    found = weaknesses(path.read_text(encoding="utf-8"))
    assert [f"{path.name}:{line}: {what}" for line, what in found] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("assert a or b", "either alternative"),
        ("assert (a, 'a is set')", "always true"),
        ("assert True", "always true"),
        ("run()", "asserts nothing"),
        ("try:\n        run()\n        assert a\n    except Exception:\n        pass", "swallows"),
        ("try:\n        assert a\n    except AssertionError:\n        pass", "swallows"),
        ("try:\n        assert a\n    except:\n        return", "swallows"),
        ("with pytest.raises(Exception):\n        run()", "any error at all"),
        ("start = time.perf_counter()\n    assert a", "what else the machine does"),
        ("with contextlib.suppress(Exception):\n        assert a", "every error is suppressed"),
    ],
)
def test_weaknesses_are_found(body: str, words: str) -> None:
    assert any(words in what for _, what in weaknesses(f"def test_it(a, b):\n    {body}\n"))


@pytest.mark.parametrize(
    "body",
    [
        "assert a and b",
        "check(a)",
        "helper()\n\ndef helper():\n    assert 1 == 2",
        "with pytest.raises(ModelError):\n        run()",
        "with pytest.raises(Exception, match='no such'):\n        run()",
        "subprocess.run(['x'], check=True)",
        "limit = time.monotonic() + 60\n    assert a",
    ],
)
def test_good_tests_are_not_objected_to(body: str) -> None:
    assert list(weaknesses(f"def test_it(a, b):\n    {body}\n")) == []


def test_caches_lie_within_the_checkout() -> None:
    here = ROOT / ".cache"
    assert cache_dir().is_relative_to(here)
    code = (
        "from mace_core.caching.cache import cache_dir; import platformdirs;"
        " print(cache_dir(), platformdirs.user_cache_dir())"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(Path(folder).is_relative_to(here) for folder in asked.split())
    assert os.environ["PIP_CACHE_DIR"], "pip keeps what it downloaded where the user has it"
