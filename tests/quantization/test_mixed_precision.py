"""A metric, and as few nodes in float as keep it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.quantization import Settings, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples, sqnr_db


@pytest.fixture(scope="module")
def score() -> Callable[[Session], float]:
    """The signal-to-noise ratio in dB against the float model, 100 at most."""
    feeds = samples(8, seed=9)
    with Session(residual_network()) as session:
        wanted = np.concatenate([session.run({"x": x})["y"] for x in feeds])

    def decibels(session: Session) -> float:
        return min(100.0, sqnr_db(np.concatenate([session.run({"x": x})["y"] for x in feeds]), wanted))

    return decibels


def test_a_metric_is_told_before_and_after(tmp_path: Path, score: Callable[[Session], float]) -> None:
    found = quantize(residual_network(), tmp_path / "q.onnx", data=samples(8), accuracy=score)
    assert found.judged is not None and found.judged.before == 100 and 35 < found.judged.after < 60
    assert found.judged.kept == []


def test_as_few_nodes_as_possible_stay_in_float_the_most_sensitive_first(
    tmp_path: Path, score: Callable[[Session], float]
) -> None:
    whole = quantize(residual_network(), tmp_path / "q.onnx", data=samples(8), accuracy=score)
    assert whole.judged is not None
    allowed = 100 - whole.judged.after - 4  # 4 dB better than all in integers
    found = quantize(residual_network(), tmp_path / "q.onnx", data=samples(8), accuracy=score, max_drop=allowed)
    assert found.judged is not None
    ranked = [name for name, _ in found.sensitivity]
    assert found.judged.kept == ranked[: len(found.judged.kept)] and len(found.judged.kept) >= 1
    assert found.judged.after >= 100 - allowed
    fewer = dict(found.judged.steps)[len(found.judged.kept) - 1]
    assert fewer < 100 - allowed
    assert set(found.judged.kept) <= set(found.floats)
    assert score(Session(str(tmp_path / "q.onnx"))) == pytest.approx(found.judged.after, abs=0.5)


def test_a_drop_that_no_mixture_keeps_is_an_error_and_writes_nothing(
    tmp_path: Path, score: Callable[[Session], float]
) -> None:
    with pytest.raises(UsageError, match="no mixture of float and quantized nodes keeps"):
        quantize(residual_network(), tmp_path / "q.onnx", data=samples(8), accuracy=score, max_drop=0.0)
    assert list(tmp_path.iterdir()) == []


def fails(session: Session) -> float:
    raise ValueError("no labels")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"accuracy": fails}, "'fails' failed: ValueError: no labels"),
        ({"accuracy": lambda session: float("nan")}, "which is no score"),
        ({"accuracy": "no_such_module:score"}, "cannot be imported"),
        ({"max_drop": 1.0}, "needs a metric"),
        ({"accuracy": fails, "max_drop": -1.0}, "a number from 0 on"),
        ({"accuracy": fails, "max_drop": float("nan")}, "a number from 0 on"),
        ({"accuracy": fails, "max_drop": 1.0, "settings": Settings("fp16")}, "mixed precision is for"),
    ],
)
def test_metrics_that_cannot_be_used(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        quantize(residual_network(), tmp_path / "q.onnx", data=samples(2), **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"rounding": "gptq"},
        {"rounding": "gptq", "corrects_bias": True},
        {"rounding": "adaround"},
        {"rounding": "adaround", "granularity": "tensor", "corrects_bias": True},
        {"corrects_bias": True, "granularity": "tensor"},
        {"equalizes": True, "granularity": "tensor"},
        {"algorithm": "mse"},
        {"algorithm": "entropy"},
        {"algorithm": "percentile"},
        {"symmetric": True},
    ],
)
def test_every_way_to_quantize_gives_a_good_model(
    tmp_path: Path, score: Callable[[Session], float], settings: dict[str, object]
) -> None:
    found = quantize(
        residual_network(), tmp_path / "q.onnx", data=samples(16), accuracy=score, settings=Settings(**settings)
    )
    assert found.judged is not None and found.judged.after > 38


def test_rounding_that_looks_at_data_is_better_where_weights_have_few_bits(
    tmp_path: Path, score: Callable[[Session], float]
) -> None:
    def decibels(rounding: str) -> float:
        found = quantize(
            residual_network(), tmp_path / "q.onnx", data=samples(16), accuracy=score,
            settings=Settings("int4-weight", rounding=rounding),
        )  # fmt: skip
        assert found.judged is not None
        return found.judged.after

    nearest = decibels("nearest")
    assert decibels("gptq") > nearest + 3
    assert decibels("adaround") > nearest + 1
