"""Who is let in, how much is taken, and what monitors see."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.requests.asking import queue_for
from mace_core.serving import ModelServer, ServerOptions
from mace_core.serving.messages import SERVICE, message
from mace_core.serving.options import read_token

from .conftest import DATATYPES, Client, arithmetic, echo, heavy

SMALL = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [5]}]}


def small() -> dict[str, Session]:
    return {"small": Session(echo(DATATYPES["FP32"]), devices=["cpu"], cache=False)}


def live(port: int | None, method: str = "ModelReady", token: str = "", credentials: Any = None) -> Any:
    channel = (
        grpc.insecure_channel(f"127.0.0.1:{port}")
        if credentials is None
        else grpc.secure_channel(f"localhost:{port}", credentials)
    )
    with channel:
        data = b"" if method.startswith("Server") else message(f"{method}Request")(name="small").SerializeToString()
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=60, metadata=metadata)


def test_a_token_is_asked_for_over_both_protocols(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    options = ServerOptions(http=0, grpc=0, drain=0.0, token=read_token(file))
    with ModelServer(small(), options) as server:
        assert server.http_port is not None
        client = Client(server.http_port)
        right = {"Authorization": "Bearer s3cret"}
        assert client.infer("small", SMALL, right)[0] == 200
        assert client.infer("small", SMALL, {"Authorization": "bearer  s3cret"})[0] == 200  # schemes have no case
        for wrong in (
            {},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer s3cre"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "Bearer s3cret s3cret"},
            {"Authorization": "Bearer \xe9"},
        ):
            for path in ("/v2", "/metrics", "/v2/models/small", "/nothing"):
                status, headers, data = client.ask("GET", path, None, wrong)
                assert (status, headers["www-authenticate"]) == (401, "Bearer")
                assert "s3cret" not in json.loads(data)["error"]
            assert client.infer("small", SMALL, wrong)[0] == 401
        assert client.ask("GET", "/v2/health/ready")[0] == 200  # probes have no token
        assert live(server.grpc_port, "ServerLive")
        assert live(server.grpc_port, token="s3cret")
        for token in ("", "other"):
            with pytest.raises(grpc.RpcError) as caught:
                live(server.grpc_port, token=token)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("text", ["", " \n", "two words", "\u00e9"])
def test_a_token_file_that_holds_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(UsageError, match="one word of ASCII"):
        read_token(file)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_for_both_protocols(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    with ModelServer(small(), ServerOptions(http=0, grpc=0, drain=0.0, tls_cert=cert, tls_key=key)) as server:
        context = ssl.create_default_context(cafile=str(cert))
        url = f"https://localhost:{server.http_port}/v2/models/small/infer"
        with urllib.request.urlopen(url, json.dumps(SMALL).encode(), context=context) as answer:
            assert json.load(answer)["outputs"][0]["data"] == [5]
        assert live(server.grpc_port, credentials=grpc.ssl_channel_credentials(cert.read_bytes()))
        with pytest.raises(OSError):
            Client(server.http_port or 0).ask("GET", "/v2")


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    square = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [256, 256], "data": [0] * 65536}]}
    body = json.dumps(square).encode()
    with ModelServer(
        {"heavy": Session(heavy(400), devices=["cpu"], cache=False)}, ServerOptions(http=0, queue=1, drain=0.0)
    ) as server:
        client = Client(server.http_port or 0)
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda _: client.ask("POST", "/v2/models/heavy/infer", body), range(12)))
        assert {status for status, _, _ in found} == {200, 503}
        for status, headers, data in found:
            if status == 503:
                assert headers["retry-after"] == "1"
                assert "try again" in json.loads(data)["error"]
        metrics = client.ask("GET", "/metrics")[2].decode()
        busy = sum(status == 503 for status, _, _ in found)
        assert f'mace_requests_total{{model="heavy",result="busy"}} {float(busy)}' in metrics


def test_the_queue_of_a_device_is_as_long_as_before_when_the_server_has_ended() -> None:
    sessions = small()
    queue = queue_for(sessions["small"])
    before = queue.limits
    with ModelServer(sessions, ServerOptions(http=0, queue=before.waiting + 7, drain=0.0)):
        assert queue.limits.waiting == before.waiting + 7
    assert queue.limits == before


def test_too_many_requests_at_once_are_refused_before_they_are_read() -> None:
    with ModelServer(small(), ServerOptions(http=0, max_requests=1, drain=0.0)) as server:
        import socket

        with socket.create_connection(("127.0.0.1", server.http_port or 0)) as waiting:
            waiting.sendall(b"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            client = Client(server.http_port or 0)
            while (found := client.ask("POST", "/v2/models/small/infer", SMALL))[0] != 503:
                pass  # until the server has seen the other one
            assert found[1]["retry-after"] == "1"


def test_metrics(server: ModelServer, client: Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    client.infer("FP32", SMALL)
    status, headers, data = client.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(data.decode())}
    assert {
        "mace_requests",
        "mace_request_seconds",
        "mace_requests_in_flight",
        "mace_queue_waiting",
        "mace_queue_running",
        "mace_batch_requests",
        "mace_device_busy_seconds",
        "mace_session_runs",
    } <= families.keys()
    done = {
        s.labels["model"]: s.value for s in families["mace_requests"].samples if s.labels.get("result") == "success"
    }
    assert done["FP32"] >= 1
    assert done.keys() >= {"heavy", "arithmetic"}  # from the beginning


def test_requests_that_come_together_are_run_as_batches() -> None:
    options = ServerOptions(http=0, max_batch=8, max_delay=0.2, drain=0.0)
    with ModelServer({"sum": Session(arithmetic(), devices=["cpu"], cache=False)}, options) as server:
        client = Client(server.http_port or 0)
        row = {"datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
        body = {"inputs": [row | {"name": "a"}, row | {"name": "b"}]}
        before = runs(client)
        with ThreadPoolExecutor(8) as pool:
            for status, found in pool.map(lambda _: client.infer("sum", body), range(8)):
                assert status == 200
                assert found["outputs"][0]["data"] == [2, 4, 6]
        assert runs(client) - before < 8


def runs(client: Client) -> float:
    text = client.ask("GET", "/metrics")[2].decode()
    return float(re.findall(r'mace_session_runs_total\{model="small",number="\d+"\} (\S+)', text)[-1])


def test_a_model_that_cannot_be_batched_is_served_one_by_one_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with ModelServer(
        {"heavy": Session(heavy(2), devices=["cpu"], cache=False)}, ServerOptions(http=0, max_batch=8, drain=0.0)
    ):
        assert "heavy is served request by request" in caplog.text


def test_a_stream_over_http_is_answered_in_order(client: Client) -> None:
    lines = [json.dumps(SMALL | {"id": str(i)} | ({"inputs": 5} if i == 3 else {})) for i in range(30)]
    status, headers, data = client.ask("POST", "/v2/models/FP32/infer_stream", "\n".join(lines).encode())
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    events = [json.loads(event.removeprefix("data: ")) for event in data.decode().split("\n\n") if event]
    assert [event.get("id") for event in events] == [str(i) if i != 3 else None for i in range(30)]
    assert events[3] == {"error": "'inputs' must be a list of objects"}
    assert events[4]["outputs"][0]["data"] == [5]


def test_a_stream_takes_no_place_from_its_own_requests() -> None:
    with ModelServer(small(), ServerOptions(http=0, max_requests=1, drain=0.0)) as server:
        body = json.dumps(SMALL).encode()
        _, _, data = Client(server.http_port or 0).ask("POST", "/v2/models/small/infer_stream", body)
        assert b'"data":[5.0]' in data


def test_results_of_a_stream_come_while_requests_are_still_sent(server: ModelServer) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", server.http_port or 0), timeout=60) as connection:
        head = b"POST /v2/models/FP32/infer_stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        file = connection.makefile("rb")
        for number in range(3):
            line = json.dumps(SMALL | {"id": f"line {number}"}).encode() + b"\n"
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            while b'"id":"line %d"' % number not in (got := file.readline()):
                assert got
        connection.sendall(b"0\r\n\r\n")
        while file.readline() != b"0\r\n":
            pass


def test_only_this_machine_reaches_a_server_unless_told_otherwise(server: ModelServer) -> None:
    assert server.options.host == "127.0.0.1"
    assert server.options.is_local
    assert not ServerOptions(host="0.0.0.0").is_local
    assert ServerOptions(host="::1").is_local


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_that_is_taken_is_said(server: ModelServer, protocol: str) -> None:
    port = getattr(server, f"{protocol}_port")
    with pytest.raises(
        UsageError, match=f"--{protocol} {port}: 127.0.0.1:{port} cannot be listened on: Address already"
    ):
        ModelServer({}, ServerOptions(**{"http": None, protocol: port}))


def test_a_host_that_is_not_there_is_said() -> None:
    for protocol in ("http", "grpc"):
        with pytest.raises(UsageError, match=f"--{protocol} 0: nowhere.invalid:0 cannot be listened on: "):
            ModelServer({}, ServerOptions(**{"http": None, protocol: 0, "host": "nowhere.invalid"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"http": 70_000}, "--http 70000: a port is a number from 0 to 65535"),
        ({"grpc": -1}, "--grpc -1: a port is a number"),
        ({"http": 8000, "grpc": 8000}, "HTTP and gRPC cannot both have the port 8000"),
        ({"http": None}, "a port for HTTP or for gRPC"),
        ({"max_body": 0}, "'max_body' is 1 at least, not 0"),
        ({"max_requests": 0}, "'max_requests' is 1 at least"),
        ({"body_timeout": -1.0}, "'body_timeout' is a number of seconds, not -1"),
        ({"grace": float("nan")}, "'grace' is a number of seconds, not nan"),
        ({"tls_cert": Path(__file__)}, "both a certificate and its key"),
        ({"tls_cert": Path(__file__), "tls_key": Path(__file__)}, "in PEM and not encrypted"),
        ({"tls_cert": Path("/no"), "tls_key": Path("/no")}, "/no cannot be read"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ServerOptions(**options)


def test_an_address_of_ipv6() -> None:
    with ModelServer(small(), ServerOptions(host="::1", http=0, grpc=0, drain=0.0)) as server:
        with urllib.request.urlopen(f"http://[::1]:{server.http_port}/v2/health/live") as answer:
            assert json.load(answer) == {"live": True}
        with grpc.insecure_channel(f"[::1]:{server.grpc_port}") as channel:
            assert channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60)


def test_compressed_messages_cannot_be_larger_than_others(server: ModelServer) -> None:
    request = message("ModelInferRequest")(model_name="FP32", raw_input_contents=[bytes(2 * server.options.max_body)])
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", compression=grpc.Compression.Gzip)
    with channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_is_told_in_json(client: Client) -> None:
    for path, wanted in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"live": True, "ready": True},
        "/v2/models/FP32/ready": {"name": "FP32", "ready": True},
        "/v2/models/FP32/versions/1/ready": {"name": "FP32", "ready": True},
    }.items():
        status, headers, data = client.ask("GET", path)
        assert (status, json.loads(data)) == (200, wanted)
        assert headers["content-type"] == "application/json"


def test_binary_data_is_not_copied_on_its_way_in() -> None:
    from mace_core.serving.body import _room
    from mace_core.serving.rest import parse_request

    text = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]}
    ).encode()
    for padding in range(8):  # wherever the JSON ends
        head = text + b" " * padding
        room = _room(len(head) + 12, len(head))
        room[:] = head + np.arange(3, dtype=np.float32).tobytes()
        fed = parse_request(room, len(head)).feeds["x"]
        assert np.shares_memory(fed, np.frombuffer(room, np.uint8))
        assert fed.flags.aligned
        np.testing.assert_array_equal(fed, [[0, 1, 2]])
