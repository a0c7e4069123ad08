"""The HTTP server itself: in a thread beside training, or as the process's main work."""
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.types import UserError


class Closing(Protocol):
    """What a server serves."""

    def close(self) -> None:
        """Ends what it began."""


class HttpServer:
    """Serves a service over HTTP. As a context manager it runs in a thread of its own; run() takes the
    calling thread.

    Args:
      service: closed with the server; a Service, unless `app` takes another.
      host, port: where to listen; port 0 takes a free one.
      api_key: see app.make_app; needed where other machines can connect.
      grace: seconds that requests in flight have at the end.
      app: makes the ASGI application of the service and the key.

    Raises:
      UserError: the address cannot be taken, or is open to others without a key.
    """

    def __init__(self, service: Closing, *, host: str = "127.0.0.1", port: int = 0, api_key: str = "",
                 grace: float = 30.0, app: Callable[[Any, str], Any] = make_app):
        if not api_key and not is_loopback(host):
            raise UserError(f"On {host!r} other machines can reach the server, and it has no API key. Set "
                            "one, or listen on 127.0.0.1.")
        self._service = service
        self._socket = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app(service, api_key), log_level="warning", access_log=False, lifespan="off",
            timeout_graceful_shutdown=max(1, round(grace)), server_header=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def __enter__(self) -> "HttpServer":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.should_exit = True
        self._thread.join()

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT; then takes no more requests, finishes those in flight, and
        returns."""
        before = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._serve()  # uvicorn handles the signals meanwhile, and raises them again at the end
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _serve(self):
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._service.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # so that a client can connect before the loop runs
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"The server cannot listen on {host} port {port}: {error}. Choose another host or "
                        "port; port 0 takes a free one.") from error
    return listener
