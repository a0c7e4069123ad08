"""An OpenAI-compatible chat endpoint in a thread on loopback that says what a test lets it say."""
import http.server
import itertools
import json
import re
import threading

from tests.helpers.fake_server import Listener, send


class ChatServer:
    """Answers each call with `answer(body)`: a text of the model's, or (status, body), or None for nothing at
    all.

    Attributes:
      url: with /v1.
      asked: [(body, headers)] in order.
      most: calls that were at work at once at most.
    """

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.most = 0
        self._at_work = 0
        self._door = threading.Lock()
        self._over = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def log_message(self, *arguments):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.handle(self, body)

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02},
                         daemon=True).start()

    def handle(self, request, body):
        if request.path != "/v1/chat/completions":
            return send(request, 404, {"error": "no such path"})
        with self._door:
            self.asked.append((body, dict(request.headers)))
            self._at_work += 1
            self.most = max(self.most, self._at_work)
        try:
            said = self.answer(body)
        finally:
            with self._door:
                self._at_work -= 1
        if said is None:
            self._over.wait(60)
            request.close_connection = True
            return None
        if isinstance(said, tuple):
            return send(request, *said)
        return send(request, 200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": said},
                                                "finish_reason": "stop"}]})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def in_turn(*answers):
    """Answers one after the other; the last one stays."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda body: next(left)


def text_of(body):
    """What the user's first message holds, without pictures."""
    content = body["messages"][1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(piece["text"] for piece in content if piece["type"] == "text")


def quotations(body):
    """{what: text} of the quotations in a question, as the system message says that they are marked."""
    mark = re.search(r"<<end (\w+)>>", body["messages"][0]["content"])[1]
    found = re.findall(rf"<<begin {mark} ([^>]*)>>\n(.*?)\n<<end {mark}>>", text_of(body), re.DOTALL)
    return dict(found)


def scored(**scores):
    """The answer that gives these scores."""
    return json.dumps({"rationale": "Well.", "scores": scores})
