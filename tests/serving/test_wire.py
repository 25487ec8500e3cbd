"""Raw contents that are taken out of a message, and put in, are those that protobuf finds there."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.serving.failures import ServingError
from mace_core.serving.messages import message
from mace_core.serving.wire import RAW_INPUTS, RAW_OUTPUTS, put_in, taken_out

contents = st.lists(st.binary(max_size=300), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    found = message("ModelInferRequest")(id=draw(st.text(max_size=200)), raw_input_contents=draw(contents))
    for name in draw(st.lists(st.text(max_size=5), max_size=3)):
        found.inputs.add(name=name, shape=draw(st.lists(st.integers(0, 1 << 62), max_size=4)))
        found.parameters[name].double_param = draw(st.floats())
    return found


@given(requests())
def test_what_is_taken_out_is_what_was_there(sent: Any) -> None:
    rest, raw = taken_out(sent.SerializeToString(), RAW_INPUTS)
    assert [bytes(each) for each in raw] == list(sent.raw_input_contents)
    found = message("ModelInferRequest").FromString(rest)
    assert not found.raw_input_contents
    found.raw_input_contents.extend(sent.raw_input_contents)
    assert found.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)


@given(st.text(max_size=200), contents)
def test_what_is_put_in_is_found(name: str, raw: list[bytes]) -> None:
    data = put_in(message("ModelInferResponse")(id=name).SerializeToString(), RAW_OUTPUTS, raw)
    assert message("ModelInferResponse").FromString(data) == message("ModelInferResponse")(
        id=name, raw_output_contents=raw
    )


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message(data: bytes) -> None:
    """They are refused, or what is left of them is judged by protobuf."""
    with contextlib.suppress(ServingError):
        rest, raw = taken_out(data, RAW_INPUTS)
        assert len(rest) + sum(map(len, raw)) <= len(data)


@pytest.mark.parametrize(
    "data", [b"\x3a", b"\x3a\x05abc", b"\x08\xff", b"\xff" * 11, b"\x0d\0\0", b"\x0f", b"\x3a\xff\xff\xff\xff\x7f"]
)
def test_messages_that_are_cut_are_refused(data: bytes) -> None:
    with pytest.raises(ServingError):
        taken_out(data, RAW_INPUTS)


def test_views_are_no_copies() -> None:
    data = message("ModelInferRequest")(raw_input_contents=[b"abc", b"defg"]).SerializeToString()
    _, raw = taken_out(data, RAW_INPUTS)
    assert all(view.obj is data for view in raw)
