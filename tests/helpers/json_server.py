"""A server on loopback that answers JSON by a function, and writes down what it was asked."""
import contextlib
import http.server
import json
import threading
from types import SimpleNamespace


@contextlib.contextmanager
def json_server(answer):
    """(url, asked): `answer` is given (path, body, headers) and returns (status, value), or the value alone;
    `asked` gathers what it was given."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
            self._answer(body)

        def do_GET(self):
            self._answer(None)

        def _answer(self, body):
            asked.append(SimpleNamespace(path=self.path, body=body, headers=dict(self.headers)))
            given = answer(self.path, body, self.headers)
            status, value = given if isinstance(given, tuple) else (200, given)
            data = json.dumps(value).encode()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that went away
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status in (301, 302, 307, 308):
                    self.send_header("Location", value["to"])
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chat_answer(text, finish_reason="stop"):
    """An answer of chat/completions."""
    return {"choices": [{"index": 0, "finish_reason": finish_reason,
                         "message": {"role": "assistant", "content": text}}]}
