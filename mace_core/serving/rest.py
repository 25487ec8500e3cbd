"""Requests and answers of HTTP: a JSON object, and behind it the tensors that are sent as binary data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mace_core.serving.datatypes import datatype_of
from mace_core.serving.exchange import InferAnswer, InferRequest, check_parameters, sequence_of, urgency
from mace_core.serving.failures import bad_request
from mace_core.serving.tensors import Buffer, checked_shape, from_bytes, from_list, to_bytes, to_list

JSON_LENGTH = "inference-header-content-length"
"""The header with the number of bytes of the JSON object, where binary data follows."""


def parse_request(body: memoryview, json_length: int | None) -> InferRequest:
    """What a request's body asks for; tensors are views of ``body`` where they can be.

    Args:
        json_length: bytes of the JSON object; None: all.

    Raises:
        ServingError: if it is no request.
    """
    if json_length is not None and json_length > len(body):
        raise bad_request(f"the header {JSON_LENGTH} says {json_length} bytes, and the body has {len(body)}")
    document = parse_json(body[:json_length])
    return request_of(document, memoryview(b"") if json_length is None else body[json_length:])


def parse_json(text: Buffer) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ServingError: if it is none.
    """
    try:
        found = _DECODER.decode(str(text, "utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise bad_request(f"the request is no valid JSON: {reason}") from error
    if not isinstance(found, dict):
        raise bad_request("the request must be a JSON object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; send such numbers as binary data")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def request_of(document: Mapping[str, Any], binary: memoryview) -> InferRequest:
    """As `parse_request`, for what is parsed already."""
    parameters = _object(document, "parameters", "the request")
    check_parameters(parameters, "the request")
    feeds: dict[str, Any] = {}
    at = 0
    for tensor in _objects(document, "inputs"):
        name = _name(tensor, "an input")
        where = f"the input '{name}'"
        if name in feeds:
            raise bad_request(f"{where} is given twice")
        shape = checked_shape(tensor.get("shape"), where)
        own = _object(tensor, "parameters", where)
        check_parameters(own, where)
        size = own.get("binary_data_size")
        if size is None:
            feeds[name] = from_list(tensor.get("data"), tensor.get("datatype"), shape, where)
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - at:
            raise bad_request(
                f"{where}: 'binary_data_size' must be a whole number, and that many bytes must follow: "
                f"{len(binary) - at} are left"
            )
        if "data" in tensor:
            raise bad_request(f"{where} has both 'data' and binary data")
        feeds[name] = from_bytes(binary[at : at + size], tensor.get("datatype"), shape, where)
        at += size
    if at != len(binary):
        raise bad_request(f"{len(binary) - at} bytes of binary data belong to no input")
    is_binary = _flag(parameters, "binary_data_output", False, "the request")
    priority, deadline = urgency(parameters)
    outputs = _outputs(document, is_binary)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise bad_request("'id' must be a string")
    return InferRequest(identity, feeds, outputs, is_binary, priority, deadline, sequence_of(parameters))


def _outputs(document: Mapping[str, Any], is_binary: bool) -> dict[str, bool] | None:
    found: dict[str, bool] = {}
    for tensor in _objects(document, "outputs"):
        name = _name(tensor, "an output")
        where = f"the output '{name}'"
        own = _object(tensor, "parameters", where)
        check_parameters(own, where)
        found[name] = _flag(own, "binary_data", is_binary, where)
    return found or None


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise bad_request(f"'{key}' must be a list of objects")
    return found


def _object(document: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = document.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad_request(f"{where}: '{key}' must be an object")
    return found


def _name(tensor: Mapping[str, Any], what: str) -> str:
    found = tensor.get("name")
    if not isinstance(found, str):
        raise bad_request(f"{what} has no 'name'")
    return found


def _flag(parameters: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise bad_request(f"{where}: '{key}' must be true or false")
    return found


def answer_document(answer: InferAnswer, *, allow_binary: bool = True) -> tuple[dict[str, Any], list[Buffer]]:
    """The JSON object of an answer, and the binary data behind it.

    Raises:
        ServingError: for an output that cannot be sent as it is asked for.
    """
    binary: list[Buffer] = []
    outputs = []
    wanted = answer.request.outputs
    for name, array in answer.outputs.items():
        shown: dict[str, Any] = {"name": name, "datatype": datatype_of(array, name), "shape": list(array.shape)}
        if allow_binary and (answer.request.is_binary if wanted is None else wanted[name]):
            data = to_bytes(array)
            binary.append(data)
            shown["parameters"] = {"binary_data_size": len(data)}
        else:
            shown["data"] = to_list(array, name)
        outputs.append(shown)
    document = {"model_name": answer.model, "model_version": answer.version, "outputs": outputs}
    if answer.request.id:
        document["id"] = answer.request.id
    return document, binary
