"""`mace serve`: models behind the Open Inference Protocol (KServe V2), over HTTP and gRPC.

What it runs on (starlette, uvicorn, grpcio, prometheus-client) comes with the extra ``serve`` and is imported when a
server is made.
"""

from mace_core.serving.options import ServerOptions
from mace_core.serving.server import ModelServer

__all__ = ["ModelServer", "ServerOptions"]
