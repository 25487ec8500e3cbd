"""The messages of the gRPC protocol, made from the compiled ``inference.proto`` beside this file.

They live in a pool of their own: a client library in the same process may have registered messages of these names.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

SERVICE = "inference.GRPCInferenceService"


@functools.cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    compiled = FileDescriptorSet.FromString(files("mace_core.serving").joinpath("inference.binpb").read_bytes())
    pool = DescriptorPool()
    for file in compiled.file:
        pool.Add(file)
    return pool


@functools.cache
def message(name: str) -> Any:
    """The class of a message, like ``ModelInferRequest``."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))
