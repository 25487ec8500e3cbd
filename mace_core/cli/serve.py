"""`mace serve`: models behind the Open Inference Protocol."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.options import Debug, Quiet, Verbose
from mace_core.cli.shared_options import ReadingOptions, SessionOptions, shared_options

if TYPE_CHECKING:
    from mace_core.serving import ModelServer, ServerOptions
    from mace_core.session import Session


@shared_options
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL…",
            help="Model files, each under a name for clients; by default that of the file.",
            show_default=False,
        ),
    ],
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    http: Annotated[
        int | None,
        typer.Option(
            "--http",
            metavar="PORT",
            min=0,
            max=65535,
            help="Port for HTTP; 0 for a free one. Default: 8000, unless --grpc is given.",
            show_default=False,
        ),
    ] = None,
    grpc: Annotated[
        int | None,
        typer.Option(
            "--grpc",
            metavar="PORT",
            min=0,
            max=65535,
            help="Port for gRPC; 0 for a free one. Default: no gRPC.",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[
        int,
        typer.Option(
            "--max-batch",
            metavar="N",
            min=1,
            help="Run requests that come at about the same time as one batch, of at most N rows.",
        ),
    ] = 1,
    max_delay: Annotated[
        float, typer.Option("--max-delay", metavar="MS", min=0, help="Wait so long for a batch at most: milliseconds.")
    ] = 2.0,
    max_sequences: Annotated[
        int,
        typer.Option(
            "--max-sequences",
            metavar="N",
            min=1,
            help="Sequences of requests to a model that keeps state, at most; each has a state of its own.",
        ),
    ] = 1024,
    sequence_idle: Annotated[
        float,
        typer.Option(
            "--sequence-idle",
            metavar="S",
            min=0,
            help="A sequence that nobody used for so long may be given up for another: seconds.",
        ),
    ] = 60.0,
    queue: Annotated[
        int, typer.Option("--queue", metavar="N", min=1, help="Requests that may wait for a device; more are refused.")
    ] = 64,
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="MIB", min=1, max=2047, help="Largest request: mebibytes.")
    ] = 64,
    body_timeout: Annotated[
        float, typer.Option("--body-timeout", metavar="S", min=0.1, help="Time for a request to come: seconds.")
    ] = 30.0,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", metavar="S", min=0, help="Time to answer what was accepted, when told to end: seconds."
        ),
    ] = 30.0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Ask clients for the token in this file: 'Authorization: Bearer TOKEN'.",
            show_default=False,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Certificate chain (PEM), for TLS.", show_default=False),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).", show_default=False)
    ] = None,
    reading: ReadingOptions,
    session: SessionOptions,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve models to programs on this machine or others: the Open Inference Protocol (KServe V2), HTTP and gRPC.

    Ends on Ctrl-C or SIGTERM, when the requests that it has accepted are answered. Metrics for Prometheus are at
    /metrics. Needs the extra 'serve': pip install 'mace-core[serve]'.

    Examples:

      mace serve model.onnx

      mace serve detect=det.onnx read=rec.onnx --http 8000 --grpc 8001 --max-batch 8
    """
    from mace_core.cli.verbosity import raise_verbosity
    from mace_core.serving.options import MEBIBYTE, ServerOptions, read_token

    raise_verbosity(verbose=verbose, quiet=quiet, debug=debug)
    paths = named_models(models)
    for path in paths.values():
        reading.check(path)
    options = ServerOptions(
        host=host,
        http=8000 if http is None and grpc is None else http,
        grpc=grpc,
        max_body=max_body * MEBIBYTE,
        queue=queue,
        max_requests=4 * queue,
        max_batch=max_batch,
        max_delay=max_delay / 1000,
        max_sequences=max_sequences,
        sequence_idle=sequence_idle,
        body_timeout=body_timeout,
        grace=grace,
        token="" if token_file is None else read_token(token_file),
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    _serve(paths, options, session)


def _serve(paths: dict[str, str], options: ServerOptions, session: SessionOptions) -> None:
    from mace_core.serving import ModelServer
    from mace_core.serving.signals import kept_signals

    with kept_signals(), contextlib.ExitStack() as opened:
        sessions: dict[str, Session] = {}
        for name, path in paths.items():
            sessions[name] = opened.enter_context(session.open(path))
        server = ModelServer(sessions, options)
        server.run(lambda: _tell(server, list(paths)))


def named_models(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=MODEL`` or ``MODEL`` by name.

    Raises:
        UsageError: for a name that is given twice, or that cannot be part of an address.
    """
    from mace_core.errors import UsageError

    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).stem, text
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise UsageError(
                f"'{name}' cannot be a name for clients: letters, digits, '.', '-' and '_'; give NAME={path}"
            )
        if name in found:
            raise UsageError(f"two models are called '{name}': give one another name, NAME={path}")
        found[name] = path
    return found


def _tell(server: ModelServer, names: Sequence[str]) -> None:
    from mace_core.cli.output import print_line

    options = server.options
    where = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "http" if options.tls_cert is None else "https"
    places = [] if server.http_port is None else [f"{scheme}://{where}:{server.http_port}"]
    places += [] if server.grpc_port is None else [f"grpc://{where}:{server.grpc_port}"]
    print_line(f"Serving {', '.join(names)} at {' and '.join(places)}")
    sys.stdout.flush()
    if not options.is_local and not options.token:
        import logging

        logging.getLogger("mace").warning(
            "anybody who can reach %s may use these models: consider --token-file, with --tls-cert and --tls-key",
            options.host,
        )
