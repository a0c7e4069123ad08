"""The HTTP server itself: in a thread beside training, or as the process's main work."""
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.types import UserError

# Longer than clients keep an idle connection (httpx 5), lest one asks by one that is just being dropped.
KEEP_ALIVE_S = 15


class Closable(Protocol):
    """What is served: the models of an engine, or environments."""

    def close(self) -> None: ...


class HttpServer:
    """Serves something over HTTP. As a context manager it runs in a thread of its own; run() takes the
    calling thread.

    Args:
      service: what is served; it is closed with the server, and where that cannot be made.
      make_app: makes its ASGI application, of the service and the API key, which every request must have
        unless it is empty.
      host, port: where to listen; port 0 takes a free one.
      api_key: needed where other machines can connect, unless there are logins.
      logins: whether the application lets nobody in without a login of its own.
      proxied: whether another server passes requests on, and its X-Forwarded-For and X-Forwarded-Proto say
        where they come from: they are believed from this machine, or from the addresses that the environment
        variable FORWARDED_ALLOW_IPS names. Else they are what anybody may write, and are not read.
      grace: seconds that requests in flight have at the end.

    Raises:
      UserError: the address cannot be taken, or is open to others without a key.
    """

    def __init__(self, service: Closable, make_app: Callable[[Any, str], Any], *, host: str = "127.0.0.1",
                 port: int = 0, api_key: str = "", logins: bool = False, proxied: bool = False,
                 grace: float = 30.0):
        self._service = service
        try:
            _check_open(host, api_key, logins)
            self._socket = _listen(host, port)
        except UserError:
            service.close()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(make_app(service, api_key), log_level="warning", access_log=False,
                                lifespan="off", timeout_graceful_shutdown=max(1, round(grace)),
                                timeout_keep_alive=KEEP_ALIVE_S, server_header=False,
                                proxy_headers=proxied)
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
        def end(*_: Any) -> None:
            self._server.should_exit = True

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._serve()  # uvicorn handles the signals from a moment on, and raises them again at the end
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _serve(self):
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._service.close()


def _check_open(host: str, api_key: str, logins: bool) -> None:
    """Raises UserError where others could reach what asks for nothing."""
    if not api_key and not logins and not is_loopback(host):
        raise UserError(f"On {host!r} other machines can reach the server, and it has no API key. Set "
                        "one, or listen on 127.0.0.1.")


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
