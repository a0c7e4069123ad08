"""Judge servers in threads on loopback, and a judge that says what a test lets it say."""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading

from jaxrl_moe.judges.judge import Judge, JudgeError, TakenBack
from jaxrl_moe.judges.rubric import rubric_of
from jaxrl_moe.serving.judges.app import make_app
from jaxrl_moe.serving.judges.service import JudgeService
from jaxrl_moe.serving.server import HttpServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYOUT = {"id": "layout", "weight": 0.75, "scale": "bounded", "description": "Is it tidy?"}
TITLE = {"id": "title", "weight": 0.25, "scale": "binary", "description": "Is there a title?"}
PAGE = rubric_of({"id": "page", "criteria": [LAYOUT, TITLE]}, "rubric")


class ScriptedJudge(Judge):
    """Says of a work what say() was told.

    Attributes:
      asked: {item: (work, ask)} in order.
      submitted: how often a work was handed in.
      dropped: items, in order.
    """

    def __init__(self):
        self.asked = {}
        self.submitted = 0
        self.dropped = []
        self._said = {}
        self._taken_back = set()
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
            if item in self._taken_back:
                self._taken_back.remove(item)
        return item

    def verdict(self, item, wait=0.0):
        with self._door:
            if item not in self.asked:
                raise KeyError(item)
            self._door.wait_for(lambda: item in self._said, wait)
            said = self._said.get(item)
            if said is None and item in self._taken_back:
                raise TakenBack("It was dropped.")
        if isinstance(said, str):
            raise JudgeError(said)
        return said

    def drop(self, item, why):
        with self._door:
            if item not in self.asked:
                raise KeyError(item)
            self.dropped.append(item)
            self._taken_back.add(item)

    def close(self):
        pass


@contextlib.contextmanager
def judge_server(judges, *, rubrics=(PAGE,), api_key="", port=0):
    """(url, what is served) of a server with {provider: {model: judge}}."""
    service = JudgeService(judges, {rubric.id: rubric for rubric in rubrics})
    with HttpServer(service, make_app, api_key=api_key, port=port, grace=1) as server:
        yield server.url, service


class JudgeProcess:
    """scripts/serve.py judge in a process of its own, on one port through all its lives."""

    def __init__(self, *options):
        self._options = options
        self._process = None
        self.url = ""
        self.start()

    def start(self):
        """Returns once it serves."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "scripts/serve.py", "judge", f"--port={port}", "--grace=1", *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                                         text=True, stdout=subprocess.PIPE)
        self.said = self._process.stdout.readline()
        self.url = re.search(r"http://[^:]+:\d+", self.said)[0]

    def kill(self):
        """By SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def end(self):
        """By SIGTERM; returns (exit code, what it said at last)."""
        self._process.terminate()
        rest = self._process.communicate(timeout=60)[0]
        return self._process.returncode, rest

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
