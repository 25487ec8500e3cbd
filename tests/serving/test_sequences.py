"""Models that keep state: each sequence of requests has its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mace_core.serving import ModelServer
from mace_core.serving.exchange import InferRequest, SequencePart
from mace_core.serving.failures import ServingError
from mace_core.serving.sequences import Sequences

from .conftest import Client


def ask(client: Client, x: float, **parameters: Any) -> tuple[int, Any]:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [x]}
    status, found = client.infer("sums", {"inputs": [tensor], "parameters": parameters})
    if status != 200:
        return status, found["error"]
    assert [output["name"] for output in found["outputs"]] == ["total"]  # not the state
    return status, found["outputs"][0]["data"][0]


def test_sequences_do_not_disturb_each_other(client: Client) -> None:
    assert ask(client, 1, sequence_id=1, sequence_start=True) == (200, 11)
    assert ask(client, 100, sequence_id="other", sequence_start=True) == (200, 110)
    assert ask(client, 2, sequence_id=1) == (200, 13)
    assert ask(client, 200, sequence_id="other") == (200, 310)
    assert ask(client, 5, sequence_id=1, sequence_start=True) == (200, 15)  # begins again
    assert ask(client, 1, sequence_id=1, sequence_end=True) == (200, 16)
    assert ask(client, 1, sequence_id="other", sequence_end=True) == (200, 311)
    status, error = ask(client, 1, sequence_id=1)
    assert status == 400
    assert error.startswith("the model 'sums' has no sequence 1: send 'sequence_start': true with the first request")


def test_requests_of_one_sequence_run_one_after_the_other(client: Client) -> None:
    assert ask(client, 0, sequence_id=7, sequence_start=True) == (200, 10)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ask(client, 1, sequence_id=7)[1], range(20)))
    assert sorted(found) == [11 + i for i in range(20)]
    assert ask(client, 0, sequence_id=7, sequence_end=True) == (200, 30)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "the model 'sums' keeps state from run to run: send 'sequence_id', and with the first request"),
        ({"sequence_id": 0}, "the model 'sums' keeps state from run to run"),
        ({"sequence_id": -1}, "the parameter 'sequence_id' must be a whole number that is not negative, or a string"),
        ({"sequence_id": 1.5}, "the parameter 'sequence_id' must be a whole number"),
        (
            {"sequence_id": "x" * 129, "sequence_start": True},
            "the parameter 'sequence_id' has more than 128 characters",
        ),
        ({"sequence_id": 5, "sequence_start": 1}, "the parameters 'sequence_start' and 'sequence_end' must be true or"),
        ({"sequence_end": True}, "'sequence_start' and 'sequence_end' need a 'sequence_id'"),
    ],
)
def test_a_request_of_no_sequence_is_refused(client: Client, parameters: dict[str, Any], error: str) -> None:
    status, said = ask(client, 1, **parameters)
    assert status == 400
    assert said.startswith(error)


def test_state_itself_is_not_taken(client: Client) -> None:
    tensors = [{"name": name, "shape": [1], "datatype": "FP32", "data": [1.0]} for name in ("x", "before")]
    body = {"inputs": tensors, "parameters": {"sequence_id": 1, "sequence_start": True}}
    status, found = client.infer("sums", body)
    assert (status, found["error"]) == (
        400, "'before' is state of the model 'sums', which the server keeps: leave it out"
    )  # fmt: skip


def test_a_request_that_fails_leaves_the_sequence_as_it_was(client: Client) -> None:
    assert ask(client, 1, sequence_id=3, sequence_start=True) == (200, 11)
    wrong = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]}
    status, _ = client.infer("sums", {"inputs": [wrong], "parameters": {"sequence_id": 3}})
    assert status == 400
    assert ask(client, 1, sequence_id=3, sequence_end=True) == (200, 12)


def test_too_many_sequences_are_refused_until_one_ends(client: Client) -> None:
    for number in (21, 22, 23):
        assert ask(client, 1, sequence_id=number, sequence_start=True)[0] == 200
    status, error = ask(client, 1, sequence_id=24, sequence_start=True)
    assert (status, error) == (503, "3 sequences of the model 'sums' are going on already; try again later")
    assert ask(client, 1, sequence_id=22, sequence_start=True) == (200, 11)  # one that goes on may begin again
    for number in (21, 22, 23):
        assert ask(client, 1, sequence_id=number, sequence_end=True)[0] == 200
    assert ask(client, 1, sequence_id=24, sequence_start=True, sequence_end=True) == (200, 11)


def test_an_idle_sequence_makes_room() -> None:
    def request(number: int, *, starts: bool = False) -> InferRequest:
        return InferRequest("", {}, sequence=SequencePart(number, starts))

    sequences = Sequences("net", {"before": "after"}, {}, 1, 0.0)
    sequences.of(request(1, starts=True)).used -= 1.0
    sequences.of(request(2, starts=True))
    with pytest.raises(ServingError, match="has no sequence 1"):
        sequences.of(request(1))


def test_tritons_client_has_sequences_too(server: ModelServer) -> None:
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        x = triton.InferInput("x", [1], "FP32").set_data_from_numpy(np.array([2], np.float32))
        for start, total in ((True, 12), (False, 14)):
            found = client.infer("sums", [x], sequence_id=9, sequence_start=start, sequence_end=not start)
            assert found.as_numpy("total").tolist() == [total]
