"""A judge that is written from the contract alone: it scores by a rule, and takes its time as people do."""
import threading

from tests.helpers.fakes import Call, Fake, send


def rule(text):
    """The score of a text, from 0 to 1."""
    return len(text) % 5 / 4


class FakeJudge(Fake):
    """Answers POST /api/judge/v1/score and GET /api/judge/v1/items/ITEM.

    Args:
      key: that it demands.
      looks: how often an item is asked for before it is judged; None: it never is.

    Attributes:
      items: {its task and last text: id}.
      given: {id: (text, score)} of those that were judged.
      asked: the bodies of score, in order.
    """

    def __init__(self, key="", looks=0):
        self.key = key
        self.looks = looks
        self.items = {}
        self.given = {}
        self.asked = []
        self._seen = {}
        self._door = threading.Lock()
        outer = self

        class Handler(Call):
            def do_GET(self):
                name = self.path.partition("?")[0].rpartition("/")[2]
                known = name in outer.items.values()
                self.say(outer.look(name) if known else {"detail": "Not Found"}, 200 if known else 404)

            def do_DELETE(self):
                self.say({"detail": "Method Not Allowed"}, 405)

            def do_POST(self):
                assert self.path.partition("?")[0] == "/api/judge/v1/score"
                self.say(outer.submit(self.read()))

            def say(self, body, status=200):
                right = self.headers.get("Authorization", "") == (f"Bearer {outer.key}" if outer.key else "")
                if right:
                    send(self, status, body)
                else:
                    send(self, 401, {"detail": "The API key is wrong."})

        self.listen(Handler)

    def submit(self, body):
        shown = body["trace"]["task"], body["trace"]["turns"][-1]["text"]
        with self._door:
            self.asked.append(body)
            item = self.items.setdefault(shown, str(len(self.items)))
        return self.look(item)

    def look(self, item):
        with self._door:
            self._seen[item] = self._seen.get(item, 0) + 1
            if self.looks is None or self._seen[item] <= self.looks:
                return {"status": "pending", "details": {"item": item}}
            text = next(shown[1] for shown, number in self.items.items() if number == item)
            self.given[item] = text, rule(text)
        return {"status": "ok", "event_rewards": [], "outcome_reward": {"total": rule(text), "criteria": {}},
                "details": {"judge": "human", "raw": f"It has {len(text)} letters."}}
