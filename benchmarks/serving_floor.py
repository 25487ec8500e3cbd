"""What a request of so many bytes costs before anything is done with it: servers that read a body and answer.

    python -m benchmarks.serving_floor {sockets,uvicorn,grpc}

`sockets` reads into one buffer with plain blocking calls; `uvicorn` and `grpc` are what `mace serve` stands on, with an
application that does nothing.  Each prints its port.  `benchmarks.serving` asks them beside the real server.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

ANSWER = bytes(2900)
"""About as much as a real answer to the requests of `benchmarks.serving`."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


def _listen() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    return listening


def serve_sockets() -> None:
    listening = _listen()
    buffer = bytearray(1 << 21)
    view = memoryview(buffer)
    while True:
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while _read_request(connection, buffer, view):
                connection.sendall(HEAD + ANSWER)


def _read_request(connection: socket.socket, buffer: bytearray, view: memoryview) -> bool:
    """Read one request of HTTP; False where there is none any more."""
    at, wanted = 0, -1
    while wanted < 0 or at < wanted:
        count = connection.recv_into(view[at:])
        if not count:
            return False
        at += count
        if wanted < 0 and (end := buffer.find(b"\r\n\r\n", 0, at)) >= 0:
            length = bytes(buffer[:end]).lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            wanted = end + 4 + int(length)
    return True


def serve_uvicorn() -> None:
    import uvicorn

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"%d" % len(ANSWER))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=600)
    uvicorn.Server(config).run(sockets=[_listen()])


def serve_grpc() -> None:
    import grpc

    from mace_core.serving.messages import SERVICE, message

    answer = message("ModelInferResponse")(model_name="first", raw_output_contents=[ANSWER])
    answer.outputs.add(name="y", datatype="UINT8", shape=[len(ANSWER)])
    data = answer.SerializeToString()

    async def infer(request: bytes, context: Any) -> bytes:
        return bytes(data)

    async def serve() -> None:
        server = grpc.aio.server()
        call = grpc.unary_unary_rpc_method_handler(infer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": call}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await server.wait_for_termination()

    asyncio.run(serve())


SERVERS = {"sockets": serve_sockets, "uvicorn": serve_uvicorn, "grpc": serve_grpc}


if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
