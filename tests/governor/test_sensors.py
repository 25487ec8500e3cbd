"""What the machine's sensors show, read from trees of files as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from mace_core.host.rapl import EnergyCounter, watts
from mace_core.host.sensors import read_sensors, sysfs_root


def tree(root: Path, **files: str) -> Path:
    """Files by path, with ``__`` for ``/``."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_everything_that_is_there_is_read(tmp_path: Path) -> None:
    tree(
        tmp_path,
        class__thermal__thermal_zone0__type="cpu-thermal\n",
        class__thermal__thermal_zone0__temp="61250\n",
        class__thermal__thermal_zone10__type="skin",
        class__thermal__thermal_zone10__temp="-4000",
        class__thermal__cooling_device0__type="Fan",
        class__thermal__cooling_device0__cur_state="2",
        class__thermal__cooling_device0__max_state="7",
        devices__system__cpu__cpu1__cpufreq__scaling_cur_freq="1804800",
        devices__system__cpu__cpu10__cpufreq__scaling_cur_freq="600000",
        class__power_supply__BAT0__type="Battery",
        class__power_supply__BAT0__status="Discharging",
        class__power_supply__BAT0__capacity="81",
        class__power_supply__BAT0__current_now="-500000",
        class__power_supply__BAT0__voltage_now="4000000",
    )
    tree(tmp_path / "class/powercap/intel-rapl:0", name="package-0", energy_uj="5000000", max_energy_range_uj="9000000")
    found = read_sensors(tmp_path)
    assert [(each.name, each.place, each.celsius) for each in found.temperatures] == [
        ("cpu-thermal", "thermal_zone0", 61.25),
        ("skin", "thermal_zone10", -4.0),
    ]
    assert found.hottest is not None and found.hottest.name == "cpu-thermal"
    assert [(each.name, each.state, each.most) for each in found.cooling] == [("Fan", 2, 7)]
    assert found.clocks_mhz == {1: 1804.8, 10: 600.0}
    (supply,) = found.supplies
    assert (supply.name, supply.kind, supply.status, supply.percent) == ("BAT0", "Battery", "Discharging", 81.0)
    assert supply.watts == pytest.approx(2.0)
    assert found.counters == (EnergyCounter("package-0", "intel-rapl:0", 5.0, 9.0),)
    assert found.absent == ()


def test_what_is_absent_is_told_by_kind_and_place(tmp_path: Path) -> None:
    found = read_sensors(tmp_path)
    assert found.hottest is None and not found.temperatures and not found.clocks_mhz and not found.counters
    assert [sentence.partition(":")[0] for sentence in found.absent] == [
        "no temperatures",
        "no cooling devices",
        "no clock rates",
        "no batteries",
        "no energy counters",
    ]
    assert all(str(tmp_path) in sentence for sentence in found.absent)


@pytest.mark.parametrize("text", ["", "warm", "-274000", "2147483647", "61250.5"])
def test_a_sensor_that_shows_nonsense_is_left_out(tmp_path: Path, text: str) -> None:
    tree(tmp_path, class__thermal__thermal_zone0__temp=text, class__thermal__thermal_zone1__temp="40000")
    assert [(each.name, each.celsius) for each in read_sensors(tmp_path).temperatures] == [("thermal_zone1", 40.0)]


def test_files_that_are_no_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "class/thermal/thermal_zone0/temp").mkdir(parents=True)
    (tmp_path / "class/thermal/thermal_zoneX").mkdir()
    (tmp_path / "class/power_supply").write_text("")
    assert read_sensors(tmp_path).temperatures == ()


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, class__thermal__thermal_zone0__temp="33000")
    monkeypatch.setenv("MACE_SYSFS_ROOT", str(tmp_path))
    assert sysfs_root() == tmp_path
    assert [each.celsius for each in read_sensors().temperatures] == [33.0]


@pytest.mark.parametrize(
    ("before", "after", "wraps_at", "expected"),
    [
        (10.0, 16.0, 100.0, {"package-0": 3.0}),
        (98.0, 4.0, 100.0, {"package-0": 3.0}),  # it began again
        (98.0, 4.0, 0.0, {}),  # it did, at an unknown value
        (98.0, 4.0, 50.0, {}),  # its range is not true
    ],
)
def test_power_follows_from_two_readings(
    before: float, after: float, wraps_at: float, expected: dict[str, float]
) -> None:
    earlier = EnergyCounter("package-0", "intel-rapl:0", before, wraps_at)
    later = EnergyCounter("package-0", "intel-rapl:0", after, wraps_at)
    new = EnergyCounter("dram", "intel-rapl:0:1", 5.0, wraps_at)
    assert watts([earlier], [later, new], 2.0) == pytest.approx(expected)
    assert watts([earlier], [later], 0.0) == {}
