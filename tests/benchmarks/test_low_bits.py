"""The measurement of packed weights: that it runs and the engines agree; never how fast anything is."""

from __future__ import annotations

import pytest

from benchmarks.low_bits import __main__ as command


@pytest.mark.parametrize("rows", ["1", "3"])
def test_the_command_prints_a_row_for_each_engine(
    rows: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "read_bandwidth", lambda threads: 1e10)
    options = ["--size", "256", "--count", "2", "--rows", rows, "--rounds", "1", "--seconds", "0.01", "--threads", "1"]
    assert command.main(options) == 0
    shown = capsys.readouterr().out
    assert "mace" in shown and "onnxruntime" in shown and "disagree" not in shown


def test_memory_is_read_at_some_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.low_bits.bandwidth.NUMBERS", 1 << 20)
    from benchmarks.low_bits.bandwidth import read_bandwidth

    assert read_bandwidth(2) > 1e6
