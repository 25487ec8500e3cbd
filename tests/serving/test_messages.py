"""The messages on the wire are those of the protocol."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from mace_core.serving.messages import message

MESSAGES = [
    f"{call}{end}"
    for call in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    for end in ("Request", "Response")
]


def fields(kind: Any) -> Any:
    """Names, numbers and types, all the way down."""
    return {
        f.name: (f.number, f.type, f.is_repeated, f.message_type and (f.message_type.name, fields(f.message_type)))
        for f in kind.fields
    }


@pytest.mark.parametrize("name", [*MESSAGES, "ModelStreamInferResponse"])
def test_fields_are_those_of_tritonclient(name: str) -> None:
    assert fields(message(name).DESCRIPTOR) == fields(getattr(service_pb2, name).DESCRIPTOR)


def test_the_compiled_file_is_that_of_the_source(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    folder = files("mace_core.serving")
    out = tmp_path / "out.binpb"
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", "inference.proto"]) == 0
    assert out.read_bytes() == folder.joinpath("inference.binpb").read_bytes()
