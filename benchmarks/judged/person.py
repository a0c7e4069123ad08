"""Somebody who judges on the page, as a browser asks it."""
import collections
import contextlib
import hashlib
import random
import threading

import httpx

from jaxrl_moe.judges.rubric import Rubric, rubric_of

LOOKS_S = (0.2, 3.0)  # that a work is looked at: between these
PAUSE_S = 0.3         # before the page is asked again


class Person(threading.Thread):
    """Answers whatever it is given, and comes back where the page was away.

    Attributes:
      over: set, so that it stops.
      answers: that were taken.
      refused: {status: how many were not}.
    """

    def __init__(self, url: str, token: str, seed: int):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.answers = 0
        self.refused: collections.Counter[int] = collections.Counter()
        self._url = url
        self._token = token
        self._random = random.Random(seed)

    def run(self) -> None:
        while not self.over.wait(PAUSE_S):
            with (contextlib.suppress(httpx.TransportError),
                  httpx.Client(base_url=self._url, timeout=30, headers={"Origin": self._url}) as http):
                self._sit(http)

    def _sit(self, http: httpx.Client) -> None:
        entered = http.post("/api/login", json={"token": self._token}).raise_for_status().json()
        http.headers["X-CSRF-Token"] = entered["csrf"]
        while not self.over.is_set():
            lease = http.post("/api/lease", json={}).raise_for_status().json()["lease"]
            if lease is None:
                self.over.wait(PAUSE_S)
                continue
            self.over.wait(self._random.uniform(*LOOKS_S))
            rubric = rubric_of(lease["rubric"], "the page's rubric")
            scores = [opinion(rubric, work["turns"][-1]) for work in lease["works"]]
            body = {"token": lease["token"], "scores": scores, "seconds": 1.0}
            answer = http.post("/api/answer", json=body)
            if answer.status_code == 200:
                self.answers += 1
            else:
                self.refused[answer.status_code] += 1


def opinion(rubric: Rubric, text: str) -> dict[str, float]:
    """The scores of a text: as its hash says, so that it gets the same whenever it comes."""
    scores = {}
    for criterion in rubric.criteria:
        drawn = hashlib.sha256(f"{criterion.id} {text}".encode()).digest()[0]
        scores[criterion.id] = float(drawn % 2) if criterion.scale == "binary" else drawn % 5 / 4
    return scores
