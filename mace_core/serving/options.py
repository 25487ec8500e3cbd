"""What a server is told when it is made."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import UsageError

MEBIBYTE = 1 << 20

LAST_PORT = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where a server listens, whom it lets in, and how much it takes.

    Attributes:
        host: the address to listen on.
        http, grpc: ports; 0: one that is free; None: not this protocol.
        max_body: bytes of a request at most.
        queue: requests that wait for a device at most.
        max_requests: requests that are being read, waited for or answered at most, of all models together.
        max_batch: the most rows of a batch; 1: requests are run one by one.
        max_sequences: sequences of requests to one model that keeps state, at most.
        sequence_idle: seconds after which a sequence that nobody uses may be given up for another.
        max_delay: seconds that a request waits for others at most.
        body_timeout: seconds within which a request's body must have come, and its headers.
        drain: seconds, after the server was asked to end, in which idle connections may still bring a request.
        grace: seconds, after that, in which accepted requests must be done; later ones are given up.
        token: what clients must send as ``Authorization: Bearer TOKEN``; "": nothing.
        tls_cert, tls_key: files with the certificate chain and the key (PEM); None: no TLS.
    """

    host: str = "127.0.0.1"
    http: int | None = 8000
    grpc: int | None = None
    max_body: int = 64 * MEBIBYTE
    queue: int = 64
    max_requests: int = 256
    max_batch: int = 1
    max_delay: float = 0.002
    max_sequences: int = 1024
    sequence_idle: float = 60.0
    body_timeout: float = 30.0
    drain: float = 0.2
    grace: float = 30.0
    token: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if self.http is None and self.grpc is None:
            raise UsageError("a server needs a port for HTTP or for gRPC")
        for name in ("http", "grpc"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= LAST_PORT:
                raise UsageError(f"--{name} {port}: a port is a number from 0 to {LAST_PORT}")
        if self.http and self.http == self.grpc:
            raise UsageError(f"HTTP and gRPC cannot both have the port {self.http}: give one of them another")
        for name in ("max_body", "queue", "max_requests", "max_batch", "max_sequences"):
            if getattr(self, name) < 1:
                raise UsageError(f"a server's '{name}' is 1 at least, not {getattr(self, name)}")
        for name in ("max_delay", "sequence_idle", "body_timeout", "drain", "grace"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"a server's '{name}' is a number of seconds, not {getattr(self, name)}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("TLS needs both a certificate and its key: give --tls-cert and --tls-key")
        if self.tls_cert is not None and self.tls_key is not None:
            _check_pair(self.tls_cert, self.tls_key)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises:
        UsageError: if the file cannot be read, or holds no token that a header can carry.
    """
    token = _read(path).decode("ascii", "replace").strip()
    if not token or not token.isprintable() or not token.isascii() or " " in token:
        raise UsageError(f"--token-file {path}: it must hold one word of ASCII characters")
    return token


def _check_pair(cert: Path, key: Path) -> None:
    import ssl

    for file in (cert, key):
        _read(file)
    try:
        # an encrypted key is not asked about: nobody may be there to answer
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(
            f"--tls-cert {cert} and --tls-key {key}: they must be a certificate chain and its key, in PEM and not "
            f"encrypted"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
