"""What objects show of themselves in notebooks and interpreters."""

from __future__ import annotations

import html
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.provider import Device, DeviceKind, Missing
from mace_core.provider.inventory import Inventory
from mace_core.provider.listing import DeviceList

EVIL = "<script>document.title='x'</script>\"><img src=x onerror=alert(1)>&amp;\x1b[31m"
SHOWN = EVIL.replace("\x1b", "\\x1b")
TAGS = {"div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


class Checker(HTMLParser):
    """Collects the text; refuses tags and attributes that no table needs."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(fragment)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= {"style", "class"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def model() -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [EVIL, 3]) for name in (EVIL, f"y{EVIL}")]
    node = helper.make_node("Neg", [EVIL], [f"y{EVIL}"], name=f"node{EVIL}")
    graph = helper.make_graph([node], EVIL, ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.metadata_props.add(key=f"key{EVIL}", value=f"value{EVIL}")
    return proto


@pytest.fixture(scope="module")
def session() -> Iterator[mace.Session]:
    with mace.Session(model(), devices=["reference"], cache=False) as opened:
        yield opened


def test_a_session_shows_its_inputs_outputs_devices_and_metadata(session: mace.Session) -> None:
    text = Checker(session._repr_html_()).text
    for word in (SHOWN, f"y{SHOWN}", f"key{SHOWN}", f"value{SHOWN}", "reference:0", f"float32[{SHOWN}, 3]"):
        assert word in text
    closed = mace.Session(model(), devices=["reference"], cache=False)
    closed.close()
    assert "(closed)" in Checker(closed._repr_html_()).text


def test_an_explanation_and_a_profile_show_their_nodes(session: mace.Session) -> None:
    profile = session.profile({EVIL: np.ones((2, 3), np.float32)})
    placed, timed = Checker(session.explain()._repr_html_()).text, Checker(profile._repr_html_()).text
    for text in (placed, timed):
        assert f"node{SHOWN}" in text
        assert "reference:0" in text
    assert f"{profile.spans[0].duration_ns / 1e6:.4f}" in timed


def test_an_empty_profile_shows_itself() -> None:
    from mace_core.scheduler.profile import Profile

    assert "0 steps" in Checker(Profile()._repr_html_()).text


def evil_devices() -> DeviceList:
    device = Device(EVIL, "0", DeviceKind.NPU, EVIL, EVIL, 1 << 30, is_virtual=True, properties={EVIL: EVIL})
    return DeviceList(Inventory((device,), {EVIL: (Missing(EVIL, EVIL, EVIL),)}, ()))


def test_devices_show_what_is_there_and_what_is_not() -> None:
    found = evil_devices()
    text = Checker(found._repr_html_()).text
    assert text.count(SHOWN) >= 7
    assert "1.0 GiB" in text
    printed = repr(found)
    assert "\x1b" not in printed
    assert "stand-ins, emulations and simulations; used only if named" in printed


def test_devices_are_a_list_of_this_machines_devices() -> None:
    found = mace.devices()
    by_name: dict[str, Any] = {device.qualified_name: device for device in found}
    assert "reference:0" in by_name
    assert len(found) == len(by_name) == len(found[:])
    assert found[0] in found
    device = by_name["cpu:0"]
    assert (device.kind, device.is_virtual, device.memory_bytes > 0) == (DeviceKind.CPU, False, True)
    for items in found.missing.values():
        assert all(item.what and item.reason for item in items)
    assert "cpu:0" in repr(found)
    assert str(found) == repr(found)
    assert "cpu:0" in html.unescape(found._repr_html_())
