"""The protocol, asked by NVIDIA's client over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mace_core.serving import ModelServer

from .conftest import DATATYPES

VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False, True]]),
    "BYTES": np.array([["", "é", "a longer one"]], object),
    "FP16": np.array([[1.5, -2, np.inf]], np.float16),
    "FP32": np.array([[1.5, np.nan, -np.inf]], np.float32),
    "FP64": np.array([[1e300, np.nan, 0]], np.float64),
    "BF16": np.array([[1.5, -2, 3e38]], ml_dtypes.bfloat16),
    **{
        name: np.array([[np.iinfo(name.lower()).min, 1, np.iinfo(name.lower()).max]], name.lower())
        for name in DATATYPES
        if "INT" in name
    },
}


@pytest.fixture(scope="module")
def clients(server: ModelServer) -> Iterator[dict[str, Any]]:
    """For each protocol the client's module, and a client."""
    import tritonclient.grpc
    import tritonclient.http

    http = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}", concurrency=8)
    grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    yield {"http": (tritonclient.http, http), "grpc": (tritonclient.grpc, grpc)}
    http.close()
    grpc.close()


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, clients: dict[str, Any]) -> Any:
    return clients[request.param]


def as_input(module: Any, name: str, datatype: str, array: Any, **options: Any) -> Any:
    found = module.InferInput(name, list(array.shape), datatype)
    if datatype == "BF16":  # the client takes float32 for it
        array = array.astype(np.float32)
    return found.set_data_from_numpy(array, **options)


def read(result: Any, name: str, datatype: str) -> Any:
    array = result.as_numpy(name)
    if datatype == "BYTES":
        return np.array([[item if isinstance(item, str) else item.decode() for item in array[0]]], object)
    return array


def test_health_and_metadata(triton: Any) -> None:
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("arithmetic")
    assert client.is_model_ready("arithmetic", "1")
    about = client.get_server_metadata(**({} if triton[0].__name__.endswith("http") else {"as_json": True}))
    assert about["name"] == "mace"
    assert ("binary_tensor_data" in about["extensions"]) == triton[0].__name__.endswith("http")


def test_metadata_of_a_model(triton: Any) -> None:
    module, client = triton
    found = client.get_model_metadata("arithmetic")
    if module.__name__.endswith("grpc"):
        tensors = [(t.name, t.datatype, list(t.shape)) for t in (*found.inputs, *found.outputs)]
        assert (found.name, list(found.versions)) == ("arithmetic", ["1"])
    else:
        tensors = [(t["name"], t["datatype"], t["shape"]) for t in (*found["inputs"], *found["outputs"])]
        assert (found["name"], found["versions"]) == ("arithmetic", ["1"])
    assert tensors == [(name, "FP32", [-1, 3]) for name in ("a", "b", "sum", "product")]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_each_datatype_comes_back_as_it_was_sent(triton: Any, datatype: str) -> None:
    module, client = triton
    value = VALUES[datatype]
    result = client.infer(datatype, [as_input(module, "x", datatype, value)])
    np.testing.assert_array_equal(read(result, "y", datatype), value)


@pytest.mark.parametrize("datatype", sorted(set(DATATYPES) - {"FP16", "BF16"}))  # the client sends those as binary only
def test_each_datatype_as_json(clients: dict[str, Any], datatype: str) -> None:
    module, client = clients["http"]
    value = VALUES[datatype]
    if datatype.startswith("FP"):
        value = np.array([[1.5, -0.25, 1e30]], value.dtype)
    tensor = as_input(module, "x", datatype, value, binary_data=False)
    wanted = module.InferRequestedOutput("y", binary_data=False)
    result = client.infer(datatype, [tensor], outputs=[wanted])
    assert "data" in result.get_response()["outputs"][0]
    np.testing.assert_array_equal(read(result, "y", datatype), value)


@pytest.mark.parametrize("shape", [(0, 3), (1, 0), (3, 2)])
def test_empty_tensors_and_rows(triton: Any, shape: tuple[int, int]) -> None:
    module, client = triton
    value = np.arange(6, dtype=np.float32)[: shape[0] * shape[1]].reshape(shape)
    result = client.infer("FP32", [as_input(module, "x", "FP32", value)])
    np.testing.assert_array_equal(result.as_numpy("y"), value)


def pair(module: Any, rows: int = 2, seed: int = 0) -> tuple[list[Any], Any, Any]:
    a, b = np.random.default_rng(seed).random((2, rows, 3), np.float32)
    return [as_input(module, "a", "FP32", a), as_input(module, "b", "FP32", b)], a, b


def test_outputs_that_are_asked_for_in_that_order(triton: Any) -> None:
    module, client = triton
    inputs, a, b = pair(module)
    outputs = [module.InferRequestedOutput("product"), module.InferRequestedOutput("sum")]
    result = client.infer("arithmetic", inputs, outputs=outputs, request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("product"), a * b)
    response = result.get_response()
    is_http = isinstance(response, dict)
    shown = response["outputs"] if is_http else response.outputs
    assert [o["name"] if is_http else o.name for o in shown] == ["product", "sum"]
    assert (response["id"] if is_http else response.id) == "seven"
    only = client.infer("arithmetic", inputs, outputs=outputs[:1])
    assert only.as_numpy("sum") is None


def test_priority_and_timeout(triton: Any) -> None:
    module, client = triton
    inputs, a, b = pair(module)
    result = client.infer("arithmetic", inputs, priority=1, timeout=60_000_000)
    np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
    square = as_input(module, "x", "FP32", np.eye(256, dtype=np.float32))
    with pytest.raises(Exception, match="deadline passed"):
        client.infer("heavy", [square], timeout=1)


@pytest.mark.parametrize(
    ("model", "name", "datatype", "value", "words"),
    [
        ("nothing", "x", "FP32", np.zeros((1, 3), np.float32), "there is no model 'nothing'"),
        ("FP32", "wrong", "FP32", np.zeros((1, 3), np.float32), "'wrong'"),
        ("FP32", "x", "INT32", np.zeros((1, 3), np.int32), "int32"),
        ("arithmetic", "a", "FP32", np.zeros((1, 3), np.float32), "'b'"),
        ("FP32", "x", "FP32", np.zeros((1, 3, 1), np.float32), "'x'"),
    ],
)
def test_what_does_not_fit_the_model(triton: Any, model: str, name: str, datatype: str, value: Any, words: str) -> None:
    from tritonclient.utils import InferenceServerException

    module, client = triton
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer(model, [as_input(module, name, datatype, value)])
    is_http = module.__name__.endswith("http")
    if model == "nothing":
        assert caught.value.status() == ("404" if is_http else "StatusCode.NOT_FOUND")
    else:
        assert caught.value.status() == ("400" if is_http else "StatusCode.INVALID_ARGUMENT")


def test_an_unknown_version(triton: Any) -> None:
    module, client = triton
    inputs, *_ = pair(module)
    assert client.infer("arithmetic", inputs, model_version="1").as_numpy("sum") is not None
    with pytest.raises(Exception, match="has no version '2'"):
        client.infer("arithmetic", inputs, model_version="2")


def test_what_this_server_does_not_do_is_said(triton: Any) -> None:
    module, client = triton
    inputs, *_ = pair(module)
    with pytest.raises(Exception, match="keeps no state: leave 'sequence_id' out"):
        client.infer("arithmetic", inputs, sequence_id=5, sequence_start=True)
    with pytest.raises(Exception, match="no classification"):
        client.infer("arithmetic", inputs, outputs=[module.InferRequestedOutput("sum", class_count=2)])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(triton: Any, algorithm: str) -> None:
    module, client = triton
    inputs, a, b = pair(module, 50)
    options = {"request_compression_algorithm": algorithm}
    if module.__name__.endswith("grpc"):
        options = {"compression_algorithm": algorithm}
    np.testing.assert_array_equal(client.infer("arithmetic", inputs, **options).as_numpy("sum"), a + b)


def test_many_at_once_are_answered_each_with_its_own_result(clients: dict[str, Any]) -> None:
    """Batches of up to four rows are put together meanwhile."""
    module, client = clients["grpc"]

    def one(seed: int) -> bool:
        inputs, a, b = pair(module, 1, seed)
        return bool(np.array_equal(client.infer("arithmetic", inputs).as_numpy("sum"), a + b))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(60)))


def test_a_stream_over_grpc_is_answered_in_order(server: ModelServer) -> None:
    import tritonclient.grpc as module

    found: Queue[Any] = Queue()
    with module.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.start_stream(lambda result, error: found.put((result, error)))
        expected = []
        for seed in range(40):
            inputs, a, b = pair(module, 1, seed)
            if seed == 7:
                client.async_stream_infer("nothing", inputs, request_id="7")
            else:
                client.async_stream_infer("arithmetic", inputs, request_id=str(seed), enable_empty_final_response=True)
            expected.append(a + b)
        for seed in range(40):
            result, error = found.get(timeout=60)
            if seed == 7:
                assert "there is no model 'nothing'" in str(error)
                continue
            assert error is None
            assert result.get_response().id == str(seed)
            assert result.get_response().parameters["triton_final_response"].bool_param
            np.testing.assert_array_equal(result.as_numpy("sum"), expected[seed])
        client.stop_stream()
