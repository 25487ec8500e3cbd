"""The acceptance networks on every provider that is here, and the measures they are judged by."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.providers import cli, places
from benchmarks.providers.boxes import find_boxes, least_overlap, overlap
from benchmarks.providers.networks import NETWORKS, Detection, Network, Recognition, Seeded, of_range
from benchmarks.providers.places import PLACES, Place, look_for
from mace_core.testing.models import mobilenet_v2

CPU = Place("cpu", 1e-2)
SQUARE = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])


def box(x: float, y: float, width: float = 10, height: float = 10) -> npt.NDArray[np.float64]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(SQUARE, SQUARE) == pytest.approx(1)
    assert overlap(box(0, 0), box(5, 0)) == pytest.approx(50 / 150)
    assert overlap(box(0, 0), box(2, 2, 5, 5)) == pytest.approx(25 / 100)
    assert overlap(box(0, 0), box(20, 0)) == 0
    assert overlap(box(0, 0), box(10, 0)) == 0
    diamond = np.array([[5, -2], [12, 5], [5, 12], [-2, 5]], float)
    assert overlap(diamond, SQUARE) == pytest.approx(82 / (100 + 98 - 82))


def test_each_box_has_its_own_partner() -> None:
    left, right = box(0, 0), box(100, 0)
    assert least_overlap([left, right], [right, left]) == pytest.approx(1)
    assert least_overlap([left, left], [left, right]) == 0
    assert least_overlap([left], [left, right]) == 0
    assert least_overlap([], []) == 1


def test_text_that_is_not_found_or_is_elsewhere_is_noticed() -> None:
    """What the detector gives, changed in ways that a faulty provider could change it."""
    pytest.importorskip("pyclipper")
    expected = np.zeros((1, 1, 96, 160), np.float32)
    expected[..., 20:36, 20:140] = 0.9
    expected[..., 60:72, 20:100] = 0.9
    detection = Detection("det", [(96, 160)])

    def agrees(found: npt.NDArray[np.float32]) -> bool:
        return detection.compare([found], [expected], CPU).agrees

    assert len(find_boxes(expected)) == 2
    assert agrees(expected - 0.05)
    assert not agrees(np.zeros_like(expected))
    assert not agrees(np.roll(expected, 4, axis=2))
    without = expected.copy()
    without[..., 60:72, :] = 0
    assert not agrees(without)
    assert not detection.compare([without * 0], [expected * 0], CPU).agrees, "a picture with nothing on it"


def test_another_letter_is_noticed() -> None:
    recognition = Recognition("rec", [0])
    scores = np.zeros((1, 4, 6625), np.float32)
    for step, letter in enumerate((5, 0, 7, 9)):
        scores[0, step, letter] = 1
    assert recognition.compare([scores * 0.6], [scores], CPU).agrees
    other = scores.copy()
    other[0, 2, 8] = 2
    assert not recognition.compare([other], [scores], CPU).agrees


def test_numbers_that_are_not_numbers_never_agree() -> None:
    network = Seeded("network", mobilenet_v2, (1, 3, 224, 224))
    right = [np.arange(4.0)]
    assert network.compare(right, right, Place("cpu", 0.0)).agrees
    assert not network.compare([np.array([0, 1, np.nan, 3])], right, CPU).agrees
    assert np.isnan(of_range([np.full(4, np.nan)], right))


def test_a_device_that_is_not_here_is_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--device", "acme:nowhere", "--network", "mobilenet_v2"]) == 1
    printed = capsys.readouterr().out
    assert "mobilenet_v2 did not run on acme:nowhere" in printed
    assert "there is no device 'acme:nowhere'" in printed


def test_a_device_of_the_user_is_taken_to_compute_in_float16() -> None:
    assert places.place("apu:neuron") == Place("apu:neuron", places.HALF)
    assert {known.device for known in PLACES} == {
        "apu:stand-in", "npu:openvino-cpu", "hexagon:v75", "npu:rockchip-rk3588",
    }  # fmt: skip


@pytest.fixture
def apu_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library of MediaTek's is named, so the stand-in is built; afterwards the variable is as it was."""
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", "")
    monkeypatch.delenv("MACE_NEURON_LIB_DIR")


@functools.cache
def found_by_the_cpu_provider(network: Network) -> list[npt.NDArray[np.float32]]:
    return cli.expected(network)


def check(network: Network, at: Place) -> None:
    device = look_for(at)
    if isinstance(device, str):
        pytest.skip(device)
    assert device.is_virtual, "this table is about stand-ins"
    row = cli.compare(network, at, device, found_by_the_cpu_provider(network))
    assert row.agrees, row
    assert row.partitions == 1, "the whole network is one subgraph"


SMALL_PAGE = Detection("a small page", [(128, 224)])


PAGES = [at for at in PLACES if not at.networks]


@pytest.mark.parametrize(
    "at", [pytest.param(at, id=at.device, marks=[pytest.mark.full] if at is not PAGES[0] else []) for at in PAGES]
)
def test_the_same_text_is_found(at: Place, apu_stand_in: None) -> None:
    pytest.importorskip("pyclipper")
    check(SMALL_PAGE, at)


PAIRS = [(network, at) for network in NETWORKS for at in PLACES if not at.networks or network.name in at.networks]


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("network", "at"), PAIRS, ids=[f"{n.name} {at.device}" for n, at in PAIRS])
def test_every_network_agrees_with_the_cpu_provider(network: Network, at: Place, apu_stand_in: None) -> None:
    if isinstance(network, Detection):
        pytest.importorskip("pyclipper")
    check(network, at)
