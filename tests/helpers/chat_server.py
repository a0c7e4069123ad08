"""An OpenAI-compatible chat endpoint in a thread on loopback that says what a test lets it say."""
import itertools
import json
import re
import threading

from tests.helpers.fakes import Call, Fake, send


class ChatServer(Fake):
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
        outer = self

        class Handler(Call):
            def do_POST(self):
                outer.handle(self, self.read())

        self.listen(Handler)
        self.url += "/v1"

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
            return self.hang(request)
        if isinstance(said, tuple):
            return send(request, *said)
        return send(request, 200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": said},
                                                "finish_reason": "stop"}]})


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
