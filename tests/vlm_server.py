"""A chat-completion server on loopback that answers as it is told, badly too, and remembers the requests."""

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import PIL.Image

from storage.records import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server sends. promised: Content-Length, when it lies. slow: seconds before it speaks."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None
    slow: float = 0.0


def said(text: str | None) -> Answer:
    """Return a whole chat completion that says `text`."""
    message = {"role": "assistant", "content": text}
    return Answer(body=json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


def graded(number: int) -> Answer:
    """Return the answer that gives a grade."""
    return said(f"Degradation Score: {number}")


Replies = Callable[[int, Mapping[str, Any]], Answer]  # (number of the request, its body) -> what to answer


@dataclass(slots=True, kw_only=True)
class Running:
    """A running server: its url, and what it was asked so far."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    busiest: int = 0


@contextlib.contextmanager
def serve(replies: Replies) -> Iterator[Running]:
    """Run a server that answers as `replies` says until the block ends."""
    lock, busy = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(running.bodies)
                running.bodies.append(body)
                running.headers.append(dict(self.headers))
                running.paths.append(self.path)
                busy[0] += 1
                running.busiest = max(running.busiest, busy[0])
            answer = replies(number, body)
            time.sleep(answer.slow)
            with lock:
                busy[0] -= 1
            with contextlib.suppress(ConnectionError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                size = len(answer.body) if answer.promised is None else answer.promised
                self.send_header("Content-Length", str(size))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = size != len(answer.body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Running(url=f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def picture_in(body: Mapping[str, Any]) -> Image:
    """Return the picture that a request shows."""
    url = body["messages"][1]["content"][0]["image_url"]["url"]
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(PIL.Image.open(io.BytesIO(data), formats=["PNG"]))


def prompt_in(body: Mapping[str, Any]) -> str:
    """Return what a request asks."""
    text: str = body["messages"][1]["content"][-1]["text"]
    return text
