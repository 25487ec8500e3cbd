"""The server: what listens, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.requests.asking import queue_for
from mace_core.serving.options import ServerOptions
from mace_core.serving.signals import ending_signals, kept_signals

if TYPE_CHECKING:
    from mace_core.session import Session

_log = logging.getLogger("mace")

BACKLOG = 128
KEEP_ALIVE = 60
"""Seconds that a connection may stay open without a request."""


class ModelServer:
    """Serves models; in a thread of its own (``with``), or until it is told to end (`run`).

        with ModelServer({"detect": Session("detect.onnx")}, ServerOptions(http=0)) as server:
            print(server.http_port)

    It takes the sessions over, and closes them when it has ended.  A request that it has accepted is answered.
    """

    def __init__(self, sessions: Mapping[str, Session], options: ServerOptions | None = None) -> None:
        """
        Args:
            sessions: a session for each name by which clients call a model.

        Raises:
            UsageError: if the extra ``serve`` is not installed, or a port cannot be listened on.
        """
        try:
            import httptools
            import prometheus_client
            import starlette
            import uvicorn

            del httptools, prometheus_client, starlette, uvicorn
            from mace_core.serving.metrics import Metrics
            from mace_core.serving.models import Models, ServedModel, try_batching
        except ImportError as error:
            raise UsageError(f"the server needs {error.name}: pip install 'mace-core[serve]'") from error
        self.options = options = options or ServerOptions()
        self._metrics = Metrics()
        self._models = Models(
            {
                name: ServedModel(
                    name,
                    session,
                    self._metrics,
                    max_sequences=options.max_sequences,
                    sequence_idle=options.sequence_idle,
                )
                for name, session in sessions.items()
            },
            options.max_requests,
        )
        self._metrics.watch(self._models)
        for name, session in sessions.items():
            try_batching(session, name, options.max_batch, options.max_delay)
        self._queues = {queue_for(session): queue_for(session).limits for session in sessions.values()}
        if options.grpc is not None:  # which listens later, and tells less of what is wrong
            _listen(options.host, options.grpc, "--grpc").close()
        self._socket = None if options.http is None else _listen(options.host, options.http, "--http")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_to_end = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.http_port = None if self._socket is None else int(self._socket.getsockname()[1])
        self.grpc_port: int | None = None

    # --- beginning and ending -------------------------------------------------------------------------------------

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; then answer what was accepted, and return.

        Args:
            ready: called when it listens.
        """
        with kept_signals(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve(ready))

    def stop(self) -> None:
        """Ask it to end; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._asked_to_end.set)

    def __enter__(self) -> ModelServer:
        is_ready = threading.Event()

        def work() -> None:
            try:
                self.run(is_ready.set)
            except BaseException as error:
                self._failure = error
            finally:
                is_ready.set()

        self._thread = threading.Thread(target=work, name="mace server", daemon=True)
        self._thread.start()
        is_ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()

    # --- in the loop ----------------------------------------------------------------------------------------------

    async def _serve(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        http = grpc = task = None
        for queue in self._queues:  # which others in the process use as well, before and after
            queue.limits = replace(queue.limits, waiting=self.options.queue)
        try:
            if self._socket is not None:
                http = self._http_server()
                task = asyncio.ensure_future(http.serve(sockets=[self._socket]))
                while not http.started and not task.done():
                    await asyncio.sleep(0.001)
                if task.done():
                    task.result()
            if self.options.grpc is not None:
                grpc = await self._grpc_server(self.options.grpc)
            with ending_signals(self._asked_to_end.set):
                ready()
                await self._asked_to_end.wait()
                await self._drain(http, task, grpc)
        finally:
            if http is not None and task is not None and not task.done():  # gRPC could not begin
                http.should_exit = True
                await task
            if self._socket is not None:
                self._socket.close()
            await asyncio.to_thread(self._models.close)
            for queue, limits in self._queues.items():
                queue.limits = replace(queue.limits, waiting=limits.waiting)

    async def _drain(self, http: Any, task: Any, grpc: Any) -> None:
        """Take no more connections, and answer what has come over those that are open; both protocols at once."""
        self._models.draining.set()
        ending = [] if grpc is None else [asyncio.ensure_future(grpc.stop(self.options.grace))]
        if http is not None:
            await asyncio.sleep(0)  # what waits to be accepted is accepted
            for server in http.servers:
                server.close()
            await asyncio.sleep(self.options.drain)
            http.should_exit = True
            ending.append(task)
        await asyncio.gather(*ending)

    # --- private --------------------------------------------------------------------------------------------------

    def _http_server(self) -> Any:
        import uvicorn

        from mace_core.serving.connections import Connection, Limits
        from mace_core.serving.http import make_app

        options = self.options
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(self._models, options, self._metrics),
                http=partial(Connection, Limits(options.body_timeout, 2 * options.max_requests + BACKLOG)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=options.grace,
                ssl_certfile=options.tls_cert,
                ssl_keyfile=options.tls_key,
            )
        )
        server.capture_signals = contextlib.nullcontext  # signals are ours
        return server

    async def _grpc_server(self, port: int) -> Any:
        try:
            import grpc
        except ImportError as error:
            raise UsageError(f"gRPC needs {error.name}: pip install 'mace-core[serve]'") from error
        from mace_core.serving.grpc_service import InferenceService

        options = self.options
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", options.max_body),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=2 * options.max_requests,
        )
        server.add_generic_rpc_handlers((InferenceService(self._models, options, self._metrics).handler(),))
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"{host}:{port}"
        failure = ""
        try:
            if options.tls_cert is not None and options.tls_key is not None:
                pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
                found = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
            else:
                found = server.add_insecure_port(address)
        except RuntimeError as error:
            failure = str(error)
        if failure:
            await server.stop(0)
            del server  # or the error keeps it, and with it a thread that disturbs the process's end
            raise UsageError(f"--grpc {port}: {address} cannot be listened on: {failure}")
        self.grpc_port = int(found)
        await server.start()
        return server


def _listen(host: str, port: int, name: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno is not None and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno)  # without the address, which Python adds
        raise UsageError(f"{name} {port}: {host}:{port} cannot be listened on: {reason}") from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's loops, which are faster, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
