"""The protocol over HTTP, as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from mace_core.serving.access import Door
from mace_core.serving.body import header_number, read_body
from mace_core.serving.failures import RETRY_AFTER, ClientGoneError, Fault, ServingError, fault_of
from mace_core.serving.rest import JSON_LENGTH, answer_document, parse_json, parse_request, request_of
from mace_core.serving.streaming import in_order, until
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.serving.connections import Peer
    from mace_core.serving.exchange import InferAnswer
    from mace_core.serving.metrics import Metrics
    from mace_core.serving.models import Models, ServedModel
    from mace_core.serving.options import ServerOptions

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_log = logging.getLogger("mace")

EXTENSIONS = ["binary_tensor_data", "schedule_policy", "sequence", "infer_stream"]

PEER = "mace.peer"
"""The extension of ASGI's scope that is the request's `Peer`."""

TOO_LATE = "the server ends, and this request was not done in time"

INFER_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Probes may ask without a token; the answers tell nothing."""

JOINED = 1 << 16
"""Bytes up to which an answer is joined to one piece."""


def make_app(models: Models, options: ServerOptions, metrics: Metrics) -> Any:
    """The ASGI application."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def health(document: dict[str, Any]) -> Any:
        return JSONResponse(document, 200 if document.get("ready", True) else 400)

    async def live(request: Any) -> Any:
        return health({"live": True})

    async def ready(request: Any) -> Any:
        return health({"live": True, "ready": models.is_ready})

    async def model_ready(request: Any) -> Any:
        return health({"name": _model(models, request.scope).name, "ready": models.is_ready})

    async def server_metadata(request: Any) -> Any:
        return JSONResponse({"name": "mace", "version": VERSION, "extensions": EXTENSIONS})

    async def model_metadata(request: Any) -> Any:
        return JSONResponse(_model(models, request.scope).metadata)

    async def show_metrics(request: Any) -> Any:
        text, media = metrics.text()
        return Response(text, media_type=media)

    async def known(request: Any, error: Exception) -> Any:
        fault, message = fault_of(error)
        return JSONResponse({"error": message}, fault.status)

    async def http_error(request: Any, error: Any) -> Any:
        text = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}"
        return JSONResponse({"error": text}, error.status_code, headers=error.headers)

    def for_model(tail: str, endpoint: Any, method: str) -> list[Any]:
        paths = (f"/v2/models/{{model}}{tail}", f"/v2/models/{{model}}/versions/{{version}}{tail}")
        return [Route(path, endpoint, methods=[method]) for path in paths]

    infer = _Endpoint(_infer, models, options, metrics)
    app = Starlette(
        routes=[
            *for_model("/infer", infer, "POST"),
            *for_model("/infer_stream", _Endpoint(_infer_stream, models, options, metrics), "POST"),
            *for_model("", model_metadata, "GET"),
            *for_model("/ready", model_ready, "GET"),
            Route("/v2/health/live", live),
            Route("/v2/health/ready", ready),
            Route("/v2", server_metadata),
            Route("/metrics", show_metrics),
        ],
        exception_handlers={HTTPException: http_error, ServingError: known},
    )
    app.router.redirect_slashes = False
    return _Guarded(app, infer, options.token, models, metrics)


def _model(models: Models, scope: Scope) -> ServedModel:
    parameters = scope["path_params"]
    return models.find(parameters["model"], parameters.get("version", ""))


class _Guarded:
    """Asks for the token first; ends connections while the server ends.

    What is asked for most, an inference, goes straight to its endpoint: the way through the routes costs a tenth of it.
    """

    def __init__(self, app: Any, infer: _Endpoint, token: str, models: Models, metrics: Metrics) -> None:
        self._app = app
        self._infer = infer
        self._door = Door(token)
        self._models = models
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if not self._models.is_ready:
            send = _closing(send)
        if scope["path"] not in OPEN_PATHS:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
            try:
                self._door.check(given)
            except ServingError as error:
                self._metrics.refused(error.fault)
                await _send_error(send, error.fault, str(error))
                return
        if scope["method"] == "POST" and (found := INFER_PATH.fullmatch(scope["path"])) is not None:
            scope["path_params"] = {"model": found[1], "version": found[2] or ""}
            await self._infer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _closing(send: Send) -> Send:
    async def send_and_close(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return send_and_close


Handler = Callable[["_Call"], Awaitable[None]]


class _Endpoint:
    """An ASGI application for one path: counts requests, and turns errors into answers."""

    def __init__(self, handler: Handler, models: Models, options: ServerOptions, metrics: Metrics) -> None:
        self._handler = handler
        self._models = models
        self._options = options
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _Call(scope, receive, send, self._models, self._options)
        task = asyncio.current_task()
        assert task is not None
        call.peer.when_gone(task.cancel)
        try:
            await self._handler(call)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not call.peer.is_gone:
                await _send_error(send, Fault.BUSY, TOO_LATE)
        except Exception as error:
            fault, message = fault_of(error)
            if not call.has_model:
                self._metrics.refused(fault)
            if fault is Fault.FAILED and not isinstance(error, ServingError):
                _log.error("a request failed: %s", message, exc_info=error)
            await _send_error(send, fault, message)


class _Call:
    """One request.

    Attributes:
        has_model: whether it got as far as its model, which counts it.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, models: Models, options: ServerOptions) -> None:
        self.receive = receive
        self.send = send
        self.models = models
        self.options = options
        self.headers = _joined(scope["headers"])
        self.scope = scope
        self.peer: Peer = scope["extensions"][PEER]
        self.has_model = False


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name; the values of one that is there several times stand in a list, as HTTP has it."""
    found: dict[str, str] = {}
    for key, value in headers:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


async def _infer(call: _Call) -> None:
    options = call.options
    with call.models.accepted():
        body = await read_body(call.receive, call.peer, call.headers, options.max_body, options.body_timeout)
        model = _model(call.models, call.scope)
        request = parse_request(body, header_number(call.headers, JSON_LENGTH))
        call.has_model = True
        await _send_answer(call.send, await model.infer(request))


async def _send_answer(send: Send, answer: InferAnswer) -> None:
    document, binary = answer_document(answer)
    text = _encoded(document)
    length = len(text) + sum(map(len, binary))
    headers = [(b"content-length", str(length).encode())]
    if binary:
        headers += [(b"content-type", b"application/octet-stream"), (JSON_LENGTH.encode(), str(len(text)).encode())]
    else:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    pieces: list[Any] = [b"".join((text, *binary))] if length <= JOINED else [text, *binary]
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1]})


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def _encoded(document: dict[str, Any]) -> bytes:
    return _ENCODER.encode(document).encode()


async def _send_error(send: Send, fault: Fault, message: str) -> None:
    text = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    if fault is Fault.BUSY:
        headers.append((b"retry-after", RETRY_AFTER.encode()))
    if fault is Fault.NO_TOKEN:
        headers.append((b"www-authenticate", b"Bearer"))
    if fault in (Fault.TOO_LARGE, Fault.TOO_SLOW):
        headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def _infer_stream(call: _Call) -> None:
    """A request on each line of the body; the answers as server-sent events, each as soon as it is its turn."""
    model = _model(call.models, call.scope)
    call.has_model = True

    async def run(line: bytes) -> dict[str, Any]:
        try:
            with call.models.accepted():
                answer = await model.infer(request_of(parse_json(line), memoryview(b"")))
                return answer_document(answer, allow_binary=False)[0]
        except Exception as error:
            fault, message = fault_of(error)
            if fault is Fault.FAILED:
                _log.error("%s: a request of a stream failed: %s", model.name, message)
            return {"error": message}

    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})
    answers = in_order(_lines(call), run)
    async with contextlib.aclosing(answers):  # type: ignore[type-var]
        try:
            async for answer in answers:
                await _send_event(call.send, answer)
        except ServingError as error:
            await _send_event(call.send, {"error": str(error)})
        except asyncio.CancelledError:
            await _send_event(call.send, {"error": TOO_LATE})
    await call.send({"type": "http.response.body", "body": b""})


async def _send_event(send: Send, document: dict[str, Any]) -> None:
    event = b"data: " + _encoded(document) + b"\n\n"
    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _lines(call: _Call) -> AsyncIterator[bytes]:
    """The lines of the body, until it ends or the server does."""
    parts: list[bytes] = []  # of the line that has not ended yet
    size, more = 0, True
    while more:
        message = await until(call.models.draining, call.receive())
        if message is None:
            return
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        first, *others = message.get("body", b"").split(b"\n")
        more = message.get("more_body", False)
        for number, piece in enumerate((first, *others)):
            if number:
                if line := b"".join(parts).strip():
                    yield line
                parts, size = [], 0
            parts.append(piece)
            size += len(piece)
            if size > call.options.max_body:
                raise ServingError(Fault.TOO_LARGE, f"a line has more than {call.options.max_body} bytes")
    if line := b"".join(parts).strip():
        yield line
