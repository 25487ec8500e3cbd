"""Options of providers: a value or a name that means nothing is a UsageError at once, whoever chose the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from scheduler_models import chain
from scheduler_stand_ins import StandInProvider, make_provider, registry_of

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import Backend, Device, DeviceKind
from mace_core.session import Session

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


def picky(name: str = "picky", *, error: type[Exception] = UsageError, **facts: Any) -> type[StandInProvider]:
    """Takes ``level``, a whole number; says otherwise with ``error``."""

    def open_strictly(self: StandInProvider, device: Device, options: Mapping[str, object]) -> Backend:
        if not isinstance(options.get("level", 1), int):
            raise error(f"level is a whole number, not {options['level']!r}")
        return StandInProvider.open(self, device, options)

    return make_provider(name, options={"level": "a whole number"}, open=open_strictly, **facts)


@pytest.mark.parametrize("devices", [None, ["picky"], ["other", "picky"]])
@pytest.mark.parametrize("error", [UsageError, ValueError, TypeError])
@pytest.mark.parametrize("where", ["picky", "picky:0"])
def test_a_refused_value_is_raised_and_nothing_falls_back(
    devices: list[str] | None, error: type[Exception], where: str
) -> None:
    registry = registry_of(picky(error=error, claims={"Neg"}), make_provider("other", claims={"Neg"}))
    with pytest.raises(UsageError, match="level is a whole number, not 'high'"):
        Session(chain("Neg"), devices=devices, options={where: {"level": "high"}}, registry=registry)


def test_it_is_raised_when_the_session_is_made_though_shapes_are_free() -> None:
    with pytest.raises(UsageError, match="level"):
        Session(chain("Neg", shape=("n", 4)), options={"picky": {"level": None}}, registry=registry_of(picky()))


def test_it_is_raised_for_the_host_that_only_takes_what_others_leave() -> None:
    host = picky("cpu", claims={"Abs"}, kind=DeviceKind.CPU)
    registry = registry_of(make_provider("one", claims={"Neg"}), host)
    with pytest.raises(UsageError, match="level"):
        Session(chain("Neg"), devices=["one"], options={"cpu": {"level": 1.5}}, registry=registry)


def test_a_device_that_options_ask_for_and_that_does_not_open_is_an_error() -> None:
    registry = registry_of(picky(error=ProviderError, claims={"Neg"}))
    with pytest.raises(ProviderError, match="level"):
        Session(chain("Neg"), options={"picky": {"level": "high"}}, registry=registry)


def test_options_of_a_provider_that_is_not_in_use_are_refused() -> None:
    registry = registry_of(picky(claims={"Neg"}), make_provider("other", claims={"Neg"}))
    with pytest.raises(UsageError, match=r"'picky' \(level\), which is not in use: .* has other:0"):
        Session(chain("Neg"), devices=["other"], options={"picky": {"level": 2}}, registry=registry)
    with pytest.raises(UsageError, match="'picky:7'"):
        Session(chain("Neg"), options={"picky:7": {"level": 2}}, registry=registry)
    with Session(
        chain("Neg"), devices=["other"], pins={"Neg": "picky"}, options={"picky": {"level": 2}}, registry=registry
    ) as session:
        assert session.run({"x": X})


@pytest.mark.parametrize("name", ["Level", "threads", "", "level "])
def test_a_name_the_provider_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="its options: level"):
        Session(chain("Neg"), options={"picky": {name: 1}}, registry=registry_of(picky()))


@pytest.mark.parametrize("options", [{1: {}}, {"picky": {1: 2}}, {"picky": [("level", 1)]}, [("picky", {})], "picky"])
def test_options_of_another_form_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        Session(chain("Neg"), options=options, registry=registry_of(picky()))


class TestTheProvidersHere:
    """Each with values of every wrong kind, chosen by itself and by name."""

    WRONG: ClassVar[dict[tuple[str, str], list[Any]]] = {
        ("cpu", "threads"): ["abc", "2", -1, 2.5, True, math.nan, [1], np.array([1, 2])],
        ("cpu", "affinity"): ["fast", 1, None, True, np.array([1, 2])],
        ("cpu", "features"): ["avx9000", 512, "host+bf16-huge", b"avx2"],
        ("cpu", "winograd"): ["yes", 1, 0.0, None, np.array([1, 2])],
        ("cpu", "precision"): ["fp16", 16, None, "float99", ["float32"]],
        ("cpu", "nonsense"): [1],
        ("opencl", "memory_limit_bytes"): ["1G", 0, -1, 1.5, True, math.nan, np.array([1, 2])],
        ("hexagon", "precision"): ["int3", 16, ["fp16"]],
        ("hexagon", "library_dir"): [1, "/nowhere", "a\0b", True],
        ("reference", "threads"): [1],
        ("custom", "threads"): [1],
        ("apu", "threads"): [1],
        ("apu", "precision"): ["int3", 16, ["float16"]],
        ("apu", "performance"): ["fast", 1, None],
        ("apu", "library_dir"): [1, "/nowhere", "a\0b", True],
        ("npu", "threads"): [1],
        ("no_such", "threads"): [1],
    }

    @pytest.mark.parametrize(("provider", "option"), WRONG)
    @pytest.mark.parametrize("is_named", [False, True])
    def test_wrong_values_are_refused(self, provider: str, option: str, is_named: bool) -> None:
        for value in self.WRONG[provider, option]:
            with pytest.raises(UsageError) as caught:
                Session(chain("Neg"), devices=[provider] if is_named else None, options={provider: {option: value}})
            assert provider in str(caught.value)

    def test_what_is_right_is_taken(self) -> None:
        pytest.importorskip("mace_cpu")
        for threads in (0, 1, np.int64(2), None):
            with Session(chain("Neg"), options={"cpu": {"threads": threads, "affinity": "none"}}) as session:
                assert session.explain().nodes_per_device == {"cpu:0": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"other": {"levle": 3}}, r"'other' has no option 'levle'"),
        ({"other:0": {"levle": 3}}, r"'other' has no option 'levle'"),
        ({"other:7": {}}, r"no device 'other:7'"),
        ({"other:7": {"level": 3}}, r"no device 'other:7'"),
        ({"other": {"level": 3}}, r"'other' \(level\), which is not in use"),
        ({"other:0": {"level": 3}}, r"'other:0' \(level\), which is not in use"),
        ({"picky:7": {}}, r"no device 'picky:7'"),
        ({"nobody": {}}, r"'nobody', which is not a provider here"),
    ],
)
def test_options_of_devices_that_are_not_in_use_are_looked_at_too(
    options: Mapping[str, Mapping[str, object]], words: str
) -> None:
    registry = registry_of(picky(), picky("other"))
    with pytest.raises(UsageError, match=words):
        Session(chain("Neg"), devices=["picky"], options=options, registry=registry)
