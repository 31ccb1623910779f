"""A registry of Prometheus metrics that is served on a loopback port while somebody works."""

from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, start_http_server


class LoopbackMetrics:
    """A context manager: serves `registry` on 127.0.0.1 for as long as the block; port 0 serves nothing."""

    def __init__(self, *, port: int) -> None:
        self.registry = CollectorRegistry()
        self._port = port
        self._server: Any = None  # a WSGI server, which prometheus_client does not type

    def __enter__(self) -> Self:
        if self._port:
            self._server, _ = start_http_server(self._port, addr="127.0.0.1", registry=self.registry)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
