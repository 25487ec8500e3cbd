"""The protocol over gRPC."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from mace_core.serving.access import Door
from mace_core.serving.exchange import InferRequest
from mace_core.serving.failures import Fault, ServingError, fault_of
from mace_core.serving.grpc_messages import FINAL, Received, answer_of, metadata_of, parsed, received, request_of
from mace_core.serving.messages import SERVICE, message
from mace_core.serving.streaming import in_order, until
from mace_core.serving.wire import put_in
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.serving.metrics import Metrics
    from mace_core.serving.models import Models
    from mace_core.serving.options import ServerOptions

_log = logging.getLogger("mace")

PUSHBACK = (("retry-pushback-ms", "1000"),)
"""How gRPC tells a client when to try again."""

OPEN_CALLS = ("ServerLive", "ServerReady")
"""Probes may ask without a token; the answers tell nothing."""

ASKS_FOR_FINAL = "triton_enable_empty_final_response"
"""The parameter with which tritonclient wants to know which answer is the last one of its request."""

STREAM_ANSWER = 2
"""The field ``infer_response`` of ``ModelStreamInferResponse``."""


class InferenceService:
    """What answers each call of `GRPCInferenceService`; requests come as bytes and are parsed here."""

    def __init__(self, models: Models, options: ServerOptions, metrics: Metrics) -> None:
        self._models = models
        self._door = Door(options.token)
        self._metrics = metrics

    def handler(self) -> Any:
        """For ``add_generic_rpc_handlers``."""
        import grpc

        calls: dict[str, Any] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
        }
        guarded = {
            name: self._guarded(partial(parsed, f"{name}Request"), call, needs_token=name not in OPEN_CALLS)
            for name, call in calls.items()
        }
        guarded["ModelInfer"] = self._guarded(received, self._infer, needs_token=True)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(call, response_serializer=_serialized)
            for name, call in guarded.items()
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
        return message("ServerMetadataResponse")(
            name="mace", version=VERSION, extensions=["schedule_policy", "sequence"]
        )

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        return metadata_of(self._models.find(request.name, request.version).metadata)

    async def _infer(self, given: Received, context: Any) -> bytes:
        return await self._answer(given, context.time_remaining())

    async def _answer(self, given: Received, remaining: float | None, *, is_final: bool = False) -> bytes:
        has_model = False
        try:
            with self._models.accepted():
                model = self._models.find(given.message.model_name, given.message.model_version)
                request = request_of(given)
                has_model = True
                return answer_of(await model.infer(_hurried(request, remaining)), is_final=is_final)
        except Exception as error:
            if not has_model:
                self._metrics.refused(fault_of(error)[0])
            raise

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        await self._check_token(context)

        async def run(data: bytes) -> Any:
            response = message("ModelStreamInferResponse")()
            is_final = False
            try:
                given = received(data)
                response.infer_response.id = given.message.id
                parameters = given.message.parameters
                is_final = ASKS_FOR_FINAL in parameters and parameters[ASKS_FOR_FINAL].bool_param
                return put_in(b"", STREAM_ANSWER, [await self._answer(given, None, is_final=is_final)])
            except Exception as error:
                fault, response.error_message = fault_of(error)
                if fault is Fault.FAILED:
                    _log.error("a request of a stream failed: %s", response.error_message)
            if is_final:
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
        self,
        parse: Callable[[bytes], Any],
        call: Callable[[Any, Any], Coroutine[Any, Any, Any]],
        *,
        needs_token: bool,
    ) -> Callable[[bytes, Any], Awaitable[Any]]:
        import grpc

        async def guarded(data: bytes, context: Any) -> Any:
            if needs_token:
                await self._check_token(context)
            try:
                return await call(parse(data), context)
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
    if isinstance(response, bytes):
        return response
    found: bytes = response.SerializeToString()
    return found


async def _next(iterator: AsyncIterator[bytes]) -> bytes | None:
    return await anext(iterator, None)


def _hurried(request: InferRequest, remaining: float | None) -> InferRequest:
    """The request with the deadline of the call, where that is earlier."""
    if remaining is None or (request.deadline is not None and request.deadline <= remaining):
        return request
    from dataclasses import replace

    return replace(request, deadline=max(remaining, 0.0))


__all__ = ["InferenceService"]
