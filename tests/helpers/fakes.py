"""What servers that tests write by hand have in common: a thread on loopback, JSON both ways, and no log."""
import http.server
import json
import sys
import threading
import time


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # a client that went away is part of the tests
            super().handle_error(request, client_address)


class Call(http.server.BaseHTTPRequestHandler):
    """A call of a server: `read()` is its body."""
    protocol_version = "HTTP/1.1"
    # header and body in one packet; else the client waits for a delayed acknowledgement
    wbufsize = 1 << 16

    def log_message(self, *arguments):
        pass

    def read(self):
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null")


class Fake:
    """A server that listens until it is closed, by its block or by close().

    Attributes:
      url: once it listens.
      over: set as it is closed, so that calls which hang end.
    """

    def listen(self, call, port=0):
        """Answers by a class of calls, each in a thread."""
        self.over = threading.Event()
        self._server = Listener(("127.0.0.1", port), call)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02},
                         daemon=True).start()

    def hang(self, call):
        """Leaves a call without an answer."""
        self.over.wait(60)
        call.close_connection = True

    def close(self):
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def send(call, status, body, data=None):
    data = json.dumps(body).encode() if data is None else data
    call.send_response(status)
    call.send_header("content-type", "application/json")
    call.send_header("content-length", str(len(data)))
    call.end_headers()
    call.wfile.write(data)


def drip(call, data):
    """A byte now and then: no read ever times out, and no answer ever ends."""
    call.send_response(200)
    call.send_header("content-type", "application/json")
    call.send_header("content-length", str(len(data)))
    call.end_headers()
    try:
        for byte in data[:100]:
            call.wfile.write(bytes([byte]))
            call.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass  # the client has gone
