"""Requests and answers of gRPC, from and to its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mace_core.serving.datatypes import BYTES, datatype_of
from mace_core.serving.exchange import InferAnswer, InferRequest, check_parameters, sequence_of, urgency
from mace_core.serving.failures import bad_request
from mace_core.serving.messages import message
from mace_core.serving.tensors import checked_shape, from_bytes, from_list, strings, to_bytes
from mace_core.serving.wire import RAW_INPUTS, RAW_OUTPUTS, put_in, taken_out

FINAL = "triton_final_response"
"""The parameter from which tritonclient learns that an answer is the last one of its request."""

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where a tensor's elements are; FP16 and BF16 are raw only."""


class Received(NamedTuple):
    """A ``ModelInferRequest``.

    Attributes:
        message: without its raw contents.
        raw: the raw contents, views of what came.
    """

    message: Any
    raw: list[memoryview]


def received(data: bytes) -> Received:
    """A ``ModelInferRequest``.

    Raises:
        ServingError: if it is none.
    """
    rest, raw = taken_out(data, RAW_INPUTS)
    return Received(parsed("ModelInferRequest", rest), raw)


def parsed(kind: str, data: bytes) -> Any:
    """A message.

    Raises:
        ServingError: if it is none of that kind.
    """
    from google.protobuf.message import DecodeError

    try:
        return message(kind).FromString(data)
    except DecodeError as error:
        raise bad_request(f"the request is no {kind}") from error


def request_of(given: Received) -> InferRequest:
    """What a request asks for; tensors are views of what came where they can be.

    Raises:
        ServingError: if it means nothing.
    """
    received, raw = given
    parameters = _parameters(received.parameters)
    check_parameters(parameters, "the request")
    if raw and len(raw) != len(received.inputs):
        raise bad_request(f"there are {len(received.inputs)} inputs and {len(raw)} raw contents")
    feeds: dict[str, Any] = {}
    for index, tensor in enumerate(received.inputs):
        where = f"the input '{tensor.name}'"
        if tensor.name in feeds:
            raise bad_request(f"{where} is given twice")
        if tensor.parameters:
            check_parameters(_parameters(tensor.parameters), where)
        shape = checked_shape(list(tensor.shape), where)
        if not raw:
            feeds[tensor.name] = _from_contents(tensor, shape, where)
            continue
        if tensor.HasField("contents"):
            raise bad_request(f"{where} has both contents and raw contents")
        feeds[tensor.name] = from_bytes(raw[index], tensor.datatype, shape, where)
    for output in received.outputs:
        check_parameters(_parameters(output.parameters), f"the output '{output.name}'")
    priority, deadline = urgency(parameters)
    outputs = {output.name: True for output in received.outputs} or None
    return InferRequest(received.id, feeds, outputs, True, priority, deadline, sequence_of(parameters))


def _from_contents(tensor: Any, shape: tuple[int, ...], where: str) -> Any:
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        if tensor.datatype in ("FP16", "BF16"):
            raise bad_request(f"{where}: {tensor.datatype} must be sent as raw contents")
        return from_list([], tensor.datatype, shape, where)  # says that there is no such type
    given = [each.name for each, _ in tensor.contents.ListFields()]
    if given not in ([], [field]):
        raise bad_request(f"{where}: the elements of {tensor.datatype} belong into {field}")
    elements = list(getattr(tensor.contents, field))
    if tensor.datatype == BYTES:
        return strings(elements, shape, where)
    if tensor.datatype in _FLOATS:  # may be infinite here, unlike in JSON
        return from_bytes(np.array(elements, _FLOATS[tensor.datatype]).tobytes(), tensor.datatype, shape, where)
    return from_list(elements, tensor.datatype, shape, where)


_FLOATS = {"FP32": "<f4", "FP64": "<f8"}


def _parameters(given: Any) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(value, choice)
    return found


def answer_of(answer: InferAnswer, *, is_final: bool = False) -> bytes:
    """A ``ModelInferResponse``, serialized; its tensors are raw.

    Args:
        is_final: whether it says that it is the last one of its request.

    Raises:
        ServingError: for an output that the protocol cannot carry.
    """
    found = message("ModelInferResponse")(model_name=answer.model, model_version=answer.version, id=answer.request.id)
    raw = []
    for name, array in answer.outputs.items():
        found.outputs.add(name=name, datatype=datatype_of(array, name), shape=array.shape)
        raw.append(to_bytes(array))
    if is_final:
        found.parameters[FINAL].bool_param = True
    return put_in(found.SerializeToString(), RAW_OUTPUTS, raw)


def metadata_of(metadata: Mapping[str, Any]) -> Any:
    """A ``ModelMetadataResponse``."""
    found = message("ModelMetadataResponse")(
        name=metadata["name"], versions=metadata["versions"], platform=metadata["platform"]
    )
    for key in ("inputs", "outputs"):
        for tensor in metadata[key]:
            getattr(found, key).add(**tensor)
    return found
