"""The report: figures, warnings, text, JSON and the page."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.quantization.encodings import encoding_for_range, fake_quantize
from mace_core.quantization.grids import Grid
from mace_core.quantization.ranges import make_observer
from mace_core.quantization.report import LayerFinding, Metric, Report, report_json, text
from mace_core.quantization.report import html as page
from mace_core.quantization.report.measure import ErrorSums, sqnr_db, value_finding
from mace_core.quantization.report.warnings import warnings
from mace_core.tensor import DType

UINT8 = Grid(DType.UINT8, False)
HOSTILE = "</script><b onload=x>&\"'\x1b[31m\n"

LAYERS = (
    LayerFinding("stem", "Conv", "stem_out", "int8", "", 34.0, 0.9998, 40.0, 45.0, 4096, 1024),
    LayerFinding("block", "Conv", "block_out", "int8", "", 8.5, 0.91, 12.0, 41.0, 8192, 2048),
    LayerFinding("head", "Gemm", "y", "int8", "", 20.0, 0.99, 9.0, 38.0, 400, 100),
    LayerFinding("probabilities", "Softmax", "p", "float", "Softmax has no quantized form"),
    LayerFinding("shape", "Shape", "s", "float", "it belongs to the arithmetic of shapes"),
)


def report(**changes: object) -> Report:
    plain = Report("net.onnx", "net.int8.onnx", 40_000, 10_000, {"scheme": "int8"}, 500, True, LAYERS)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def seen(numbers: np.ndarray, low: float, high: float, axis: int | None = None):  # type: ignore[no-untyped-def, type-arg]
    observer = make_observer("minmax", "x", UINT8, axis=axis)
    observer.update(numbers)
    return value_finding(observer, encoding_for_range(low, high, UINT8), "node")


@given(noise=st.floats(2.0**-20, 4.0), parts=st.integers(1, 5), seed=st.integers(0, 1000))
def test_errors_over_a_stream_are_those_of_the_whole(noise: float, parts: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    expected = generator.normal(size=(20, 5)).astype(np.float32)
    found = expected + np.float32(noise) * generator.normal(size=expected.shape).astype(np.float32)
    sums = ErrorSums()
    for x, y in zip(np.array_split(found, parts), np.array_split(expected, parts), strict=True):
        sums.update(x, y)
    error = found.astype(np.float64) - expected
    ratio = 10 * math.log10(np.square(expected.astype(np.float64)).sum() / np.square(error).sum())
    assert sums.sqnr_db == pytest.approx(ratio, rel=1e-6, abs=1e-6)
    product = float(np.dot(found.ravel().astype(np.float64), expected.ravel()))
    assert sums.cosine == pytest.approx(product / np.linalg.norm(found) / np.linalg.norm(expected), rel=1e-5)


def test_ratios_at_the_ends_are_no_errors() -> None:
    assert sqnr_db(np.ones(3), np.ones(3)) == math.inf
    assert sqnr_db(np.ones(3), np.zeros(3)) == -math.inf
    zeros = ErrorSums()
    zeros.update(np.zeros(3), np.zeros(3))
    assert (zeros.sqnr_db, zeros.cosine) == (math.inf, 1.0)
    found = json.dumps(report_json(report(layers=(dataclasses.replace(LAYERS[0], sqnr_db=math.inf),))), allow_nan=False)
    assert '"sqnr_db": "Infinity"' in found


@given(cut=st.floats(0.1, 4.0), seed=st.integers(0, 100))
def test_the_clipped_share_is_that_of_the_numbers_outside(cut: float, seed: int) -> None:
    numbers = np.abs(np.random.default_rng(seed).normal(size=20_000)).astype(np.float32)
    found = seen(numbers, 0.0, cut)
    true = float((numbers > cut + found.scale / 2).mean())
    assert found.clipped == pytest.approx(true, abs=0.004)
    assert (found.clipped > 0) == (true > 0)
    assert sum(found.counts) == len(numbers)
    assert len(found.edges) == len(found.counts) + 1 <= 66
    lost = np.abs(fake_quantize(numbers, encoding_for_range(0.0, cut, UINT8)) - numbers)
    assert (lost > found.scale * 0.51).any() == (found.clipped > 0)


def test_the_whole_range_clips_nothing_and_channels_are_drawn_together() -> None:
    numbers = np.random.default_rng(1).normal(size=(4, 3, 50)).astype(np.float32) * np.array([[1], [100], [0.01]])
    whole = seen(numbers, float(numbers.min()), float(numbers.max()))
    assert whole.clipped == 0.0
    channels = seen(numbers, float(numbers.min()), float(numbers.max()), axis=1)
    assert sum(channels.counts) == numbers.size
    assert (channels.seen_low, channels.seen_high) == (whole.seen_low, whole.seen_high)


def test_nothing_to_warn_of_says_nothing() -> None:
    assert warnings(report(layers=LAYERS[:1])) == []


def test_warnings_name_what_is_wrong() -> None:
    clipping = seen(np.arange(1000, dtype=np.float32), 0.0, 500.0)
    said = warnings(report(samples=7, values=(clipping,), metric=Metric("top1", 0.9, 0.7, 0.02)))
    assert [
        bool(re.search(pattern, sentence))
        for pattern, sentence in zip(
            [
                r"top1 drops by 0\.2, and 0\.02 was allowed",
                r"thin: 7 samples\. Below 100 .* 1,000 are advised",
                r"1 value clips .*'x' 4\d\.\d\d% beyond 0 to 500 \(seen: 0 to 999\)",
                r"1 layer has an SQNR below 10 dB: 'head' \(9\.0 dB\)",
                r"2 nodes stay in float\. 1 Softmax: Softmax has no quantized form; 1 Shape: it belongs",
            ],
            said,
            strict=True,
        )
    ] == [True] * 5
    assert "thin" not in " ".join(warnings(report(samples=100)))
    assert "thin" not in " ".join(warnings(report(samples=0, is_calibrated=False)))
    assert "drops" not in " ".join(warnings(report(metric=Metric("top1", 0.9, 0.89, 0.02))))


@pytest.mark.parametrize("width", [None, 200, 80, 40])
def test_the_summary_fits_the_terminal_and_begins_with_the_worst_layer(width: int | None) -> None:
    shown = text(report(samples=5), width)
    if width is not None:
        assert max(map(len, shown.splitlines())) <= width
    if width != 40:
        assert "75.0% smaller" in shown
    assert shown.index("head ") < shown.index("block ") < shown.index("stem ")
    assert "probabilities" not in shown
    assert "… and 2 more" in text(report(), rows=1)


def test_json_has_the_figures_and_the_warnings() -> None:
    found = json.loads(json.dumps(report_json(report(samples=3)), allow_nan=False))
    assert (found["size_ratio"], found["samples"], found["layers"][1]["sqnr_db"]) == (0.25, 3, 8.5)
    assert any("thin" in sentence for sentence in found["warnings"])


class Reader(html.parser.HTMLParser):
    """Notes tags, addresses and text, and that every tag is closed."""

    VOID = ("meta",)

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("href", "src", "srcset", "action", "data"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.add(value or "")
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    values = tuple(seen(np.random.default_rng(seed).normal(size=500), -1.0, 2.0 + seed) for seed in range(20))
    source = page(report(samples=3, values=values, metric=Metric("top1", 0.9, 0.89)))
    reader = Reader(source)
    assert reader.open == []
    assert {"script", "img", "link", "iframe"}.isdisjoint(reader.tags)
    assert all(address.startswith("#") for address in reader.addresses)
    assert {address[1:] for address in reader.addresses} <= reader.ids
    assert "url(" not in source and "@import" not in source
    assert "prefers-color-scheme:dark" in source
    for words in ("75.0% smaller", "thin: 3 samples", "0.89", "Softmax has no quantized form", "head", "8 more"):
        assert words in reader.text
    assert source.count("<svg") == source.count("</svg>")
    assert source.count("<figure>") == 20


def test_names_of_a_hostile_model_stay_text() -> None:
    layers = tuple(dataclasses.replace(layer, name=HOSTILE, op_type=HOSTILE, reason=HOSTILE) for layer in LAYERS)
    values = (dataclasses.replace(seen(np.arange(9), 0.0, 3.0), name=HOSTILE, node=HOSTILE),)
    hostile = report(
        model=HOSTILE, output=HOSTILE, settings={HOSTILE: HOSTILE}, layers=layers, values=values, notes=[HOSTILE]
    )
    reader = Reader(page(hostile))
    assert reader.open == []
    assert {"script", "b"}.isdisjoint(reader.tags)
    assert "\x1b" not in page(hostile)
    assert "\x1b" not in text(hostile, 80)


def test_a_report_of_nothing_is_a_page_too() -> None:
    empty = Report("a.onnx", "b.onnx", 0, 0, is_calibrated=False)
    assert Reader(page(empty)).open == []
    assert "0 of 0 nodes" in text(empty, 80)
