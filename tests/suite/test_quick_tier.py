"""What the quick tier leaves out of products of parameters, and that nothing is left out of what was chosen by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mace_testing.quick_tier import MARKS, ONE_OF, SMALL_FAMILY, is_drawn, is_run, kept

from mace_core.testing.cases import Case

CONFTEST = Path(__file__).parents[2] / "conftest.py"

PRODUCT = [
    (f"{op}-{dtype}-{size}", {"op": op, "dtype": dtype, "size": size})
    for op, dtype, size in itertools.product(("Add", "Sub", "Mul", "Div"), ("float32", "int8", "bool"), range(5))
]


def test_every_value_of_every_parameter_is_kept_and_a_part_of_the_rest() -> None:
    found = [parameters for (_, parameters), is_kept in zip(PRODUCT, kept(PRODUCT), strict=True) if is_kept]
    for name in ("op", "dtype", "size"):
        assert {case[name] for case in found} == {parameters[name] for _, parameters in PRODUCT}
    assert len(PRODUCT) / (2 * ONE_OF) < len(found) < len(PRODUCT) * 0.6


def test_what_is_kept_is_the_same_each_time() -> None:
    assert kept(PRODUCT) == kept(PRODUCT)
    assert 150 < sum(is_drawn(f"name {number}", 5) for number in range(1000)) < 250


def test_a_list_without_repetition_and_a_small_product_are_kept_whole() -> None:
    assert all(kept([(str(number), {"number": number}) for number in range(100)]))
    assert all(kept(PRODUCT[:SMALL_FAMILY]))


def test_equal_values_are_one_value_whatever_their_kind() -> None:
    def case(number: int) -> dict[str, object]:
        return {"array": np.ones(3), "options": {"axis": [0, 1]}, "case": Case("c", "Relu", (np.ones(number + 1),))}

    found = kept([(str(number), case(number)) for number in range(40)])
    assert found[0]
    assert found[1:] == [is_drawn(str(number), ONE_OF) for number in range(1, 40)]


def test_values_that_differ_are_told_apart() -> None:
    values = [1, 1.0, "1", True, None, (1,), [1], {"a": 1}, np.float32(1), np.ones(1), np.ones(2), np.ones(1, np.int8)]
    assert all(kept([("same name", {"value": value}) for value in values]))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this repository's rules, and a test of 100 cases."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -m 'not full'\nmarkers = full\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.parametrize('a', range(10))\n@pytest.mark.parametrize('b', range(10))\n"
        "def test_it(a, b):\n    assert a + b >= 0\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("marks", "keyword", "arguments", "is_it"),
    [
        (MARKS, "", (), True),
        (MARKS, "", ("tests",), True),
        (MARKS, "", ("tests/test_it.py",), False),
        (MARKS, "", ("tests", "tests/test_it.py::test_it"), False),
        (MARKS, "test_it", (), False),
        ("full or not full", "", (), False),
        ("", "", (), False),
    ],
)
def test_what_is_chosen_by_hand_is_run_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch, marks: str, keyword: str, arguments: tuple[str, ...], is_it: bool
) -> None:
    monkeypatch.chdir(project)
    assert is_run(marks, keyword, arguments) is is_it


@pytest.mark.parametrize(("arguments", "is_whole"), [((), False), (("-m", "full or not full"), True)], ids=str)
def test_pytest_leaves_out_combinations(project: Path, arguments: tuple[str, ...], is_whole: bool) -> None:
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--collect-only", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    count = done.stdout.count("<Function test_it[")
    if is_whole:
        assert count == 100, done.stdout + done.stderr
    else:
        assert 19 <= count < 60, done.stdout + done.stderr
