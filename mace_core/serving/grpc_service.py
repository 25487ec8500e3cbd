"""The protocol over gRPC."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from mace_core.serving.access import Door
from mace_core.serving.exchange import InferRequest
from mace_core.serving.failures import Fault, ServingError, bad_request, fault_of
from mace_core.serving.grpc_messages import answer_of, metadata_of, request_of
from mace_core.serving.messages import SERVICE, message
from mace_core.serving.streaming import in_order, until
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.serving.metrics import Metrics
    from mace_core.serving.models import Models
    from mace_core.serving.options import ServerOptions

_log = logging.getLogger("mace")

PUSHBACK = (("retry-pushback-ms", "1000"),)
"""How gRPC tells a client when to try again."""

FINAL = "triton_final_response"
ASKS_FOR_FINAL = "triton_enable_empty_final_response"
"""Parameters with which tritonclient learns that an answer is the last one of its request."""


class InferenceService:
    """What answers each call of `GRPCInferenceService`; requests come as bytes and are parsed here."""

    def __init__(self, models: Models, options: ServerOptions, metrics: Metrics) -> None:
        self._models = models
        self._door = Door(options.token)
        self._metrics = metrics

    def handler(self) -> Any:
        """For ``add_generic_rpc_handlers``."""
        import grpc

        calls: dict[str, tuple[Any, bool]] = {
            "ServerLive": (self._server_live, False),
            "ServerReady": (self._server_ready, False),
            "ModelReady": (self._model_ready, True),
            "ServerMetadata": (self._server_metadata, True),
            "ModelMetadata": (self._model_metadata, True),
            "ModelInfer": (self._infer, True),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(f"{name}Request", call, needs_token=needs_token), response_serializer=_serialized
            )
            for name, (call, needs_token) in calls.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream, response_serializer=_serialized
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    # --- calls ----------------------------------------------------------------------------------------------------

    async def _server_live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._models.is_ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self._models.find(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._models.is_ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(name="mace", version=VERSION, extensions=["schedule_policy"])

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        return metadata_of(self._models.find(request.name, request.version).metadata)

    async def _infer(self, request: Any, context: Any) -> Any:
        return await self._answer(request, context.time_remaining())

    async def _answer(self, received: Any, remaining: float | None) -> Any:
        has_model = False
        try:
            with self._models.accepted():
                model = self._models.find(received.model_name, received.model_version)
                request = request_of(received)
                has_model = True
                return answer_of(await model.infer(_hurried(request, remaining)))
        except Exception as error:
            if not has_model:
                self._metrics.refused(fault_of(error)[0])
            raise

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        await self._check_token(context)

        async def run(data: bytes) -> Any:
            response = message("ModelStreamInferResponse")()
            try:
                received = _parsed("ModelInferRequest", data)
            except ServingError as error:
                response.error_message = str(error)
                return response
            try:
                response.infer_response.CopyFrom(await self._answer(received, None))
            except Exception as error:
                fault, response.error_message = fault_of(error)
                response.infer_response.id = received.id
                if fault is Fault.FAILED:
                    _log.error("a request of a stream failed: %s", response.error_message)
            if received.parameters[ASKS_FOR_FINAL].bool_param:
                response.infer_response.parameters[FINAL].bool_param = True
            return response

        answers = in_order(self._until_drained(requests), run)
        async with contextlib.aclosing(answers):  # type: ignore[type-var]
            async for answer in answers:
                yield answer

    async def _until_drained(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        iterator = aiter(requests)
        while (data := await until(self._models.draining, _next(iterator))) is not None:
            yield data

    # --- around them ----------------------------------------------------------------------------------------------

    def _guarded(
        self, kind: str, call: Callable[[Any, Any], Coroutine[Any, Any, Any]], *, needs_token: bool
    ) -> Callable[[bytes, Any], Awaitable[Any]]:
        import grpc

        async def guarded(data: bytes, context: Any) -> Any:
            if needs_token:
                await self._check_token(context)
            try:
                return await call(_parsed(kind, data), context)
            except Exception as error:
                fault, text = fault_of(error)
                if fault is Fault.FAILED and not isinstance(error, ServingError):
                    _log.error("a request failed: %s", text, exc_info=error)
                code = grpc.StatusCode[fault.code]
                await context.abort(code, text, PUSHBACK if fault is Fault.BUSY else ())

        return guarded

    async def _check_token(self, context: Any) -> None:
        import grpc

        given = next((value for name, value in context.invocation_metadata() if name == "authorization"), None)
        try:
            self._door.check(given)
        except ServingError as error:
            self._metrics.refused(error.fault)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))


def _serialized(response: Any) -> bytes:
    found: bytes = response.SerializeToString()
    return found


def _parsed(kind: str, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message(kind).FromString(data)
    except DecodeError as error:
        raise bad_request(f"the request is no {kind}") from error


async def _next(iterator: AsyncIterator[bytes]) -> bytes | None:
    return await anext(iterator, None)


def _hurried(request: InferRequest, remaining: float | None) -> InferRequest:
    """The request with the deadline of the call, where that is earlier."""
    if remaining is None or (request.deadline is not None and request.deadline <= remaining):
        return request
    from dataclasses import replace

    return replace(request, deadline=max(remaining, 0.0))


__all__ = ["InferenceService"]
