"""Judge servers in threads on loopback, and a judge that says what a test lets it say."""
import contextlib
import threading

from jaxrl_moe.judges.judge import Judge, JudgeError
from jaxrl_moe.judges.rubric import rubric_of
from jaxrl_moe.serving.judges.app import make_app
from jaxrl_moe.serving.judges.service import JudgeService
from jaxrl_moe.serving.server import HttpServer

LAYOUT = {"id": "layout", "weight": 0.75, "scale": "bounded", "description": "Is it tidy?"}
TITLE = {"id": "title", "weight": 0.25, "scale": "binary", "description": "Is there a title?"}
PAGE = rubric_of({"id": "page", "criteria": [LAYOUT, TITLE]}, "rubric")


class ScriptedJudge(Judge):
    """Says of a work what say() was told.

    Attributes:
      asked: {item: (work, ask)} in order.
      submitted: how often a work was handed in.
    """

    def __init__(self):
        self.asked = {}
        self.submitted = 0
        self._said = {}
        self._door = threading.Condition()

    def say(self, item, verdict):
        """A Verdict, or a text: why there is none."""
        with self._door:
            self._said[item] = verdict
            self._door.notify_all()

    def submit(self, work, ask):
        with self._door:
            item = work.digest()[:16]
            self.asked[item] = work, ask
            self.submitted += 1
        return item

    def verdict(self, item, wait=0.0):
        with self._door:
            if item not in self.asked:
                raise KeyError(item)
            self._door.wait_for(lambda: item in self._said, wait)
            said = self._said.get(item)
        if isinstance(said, str):
            raise JudgeError(said)
        return said

    def close(self):
        pass


@contextlib.contextmanager
def judge_server(judges, *, rubrics=(PAGE,), api_key="", port=0):
    """(url, what is served) of a server with {provider: {model: judge}}."""
    service = JudgeService(judges, {rubric.id: rubric for rubric in rubrics})
    with HttpServer(service, make_app, api_key=api_key, port=port, grace=1) as server:
        yield server.url, service
