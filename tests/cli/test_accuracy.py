"""`mace accuracy`: what it measures, and what it prints."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mace_core.cli.accuracy import compare
from mace_core.cli.parsing import parse_provider_options
from mace_core.errors import UsageError

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


def test_equal_outputs_have_no_error() -> None:
    values = np.array([[1.0, 2.0], [math.nan, math.inf]])
    found = compare("y", [values], [values.copy()])
    assert (found.largest, found.relative, found.sqnr_db, found.not_finite) == (0, 0, math.inf, 0)
    assert found.elements == 4


def test_errors_are_measured_over_all_runs() -> None:
    wanted = [np.array([[0.0, 10.0]]), np.array([[4.0, 2.0]])]
    got = [np.array([[1.0, 10.0]]), np.array([[1.0, 2.0]])]
    found = compare("y", got, wanted)
    assert found.largest == 3
    assert found.relative == pytest.approx(0.3)
    assert found.sqnr_db == pytest.approx(10 * math.log10(120 / 10))
    assert found.same_peak == 0.5


def test_infinity_on_one_side_is_counted() -> None:
    found = compare("y", [np.array([1.0, math.inf, math.nan])], [np.array([1.0, -math.inf, 3.0])])
    assert found.not_finite == 2
    assert found.largest == 0


def test_scalars_have_no_peak() -> None:
    assert compare("y", [np.array(1.0)], [np.array(2.0)]).same_peak is None


def test_the_command_measures_a_model(mace: Mace, model: Path) -> None:
    done = mace("accuracy", "model.onnx", "--against", "reference", "--shape", "5x3", "--runs", "2", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["runs"] == 2
    (found,) = shown["outputs"]
    assert found["elements"] == 20 and found["largest"] == 0 and found["sqnr_db"] == "Infinity"


def test_the_command_prints_a_table(mace: Mace, model: Path) -> None:
    done = mace("accuracy", "model.onnx", "--against", "reference", "--shape", "5x3", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert "model.onnx, 1 run, against reference without options" in done.stdout
    assert "SQNR dB" in done.stdout


def test_provider_options_are_read_by_provider() -> None:
    found = parse_provider_options(["cpu.precision=bfloat16", "acme.level=3", "acme.fast=true"], threads=2)
    assert found == {"cpu": {"threads": 2, "precision": "bfloat16"}, "acme": {"level": 3, "fast": True}}


@pytest.mark.parametrize("text", ["precision=bfloat16", "cpu.precision", "cpu.=x", ".name=x", "cpu.name="])
def test_a_provider_option_of_another_form_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"write it PROVIDER\.NAME=VALUE"):
        parse_provider_options([text])


def test_options_reach_the_provider(mace: Mace, model: Path) -> None:
    done = mace("run", "model.onnx", "--random", "--device", "cpu", "-O", "cpu.precision=float8", plugins="cpu")
    assert done.returncode == 2
    assert "'precision' is one of float32, bfloat16, float16, not 'float8'" in done.stderr
