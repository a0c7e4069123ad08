"""Clients of a run's endpoint that do what clients do: wait for answers, stream them, go away in the middle,
lose patience."""
import collections
import json
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx

PROMPTS = ("Ann has 3 boxes of 4 pens. How many in all?", "Tom had 9 apples and ate 2. How many are left?")
PATIENCE = 0.05  # seconds that the impatient wait
PAUSE = 0.2  # seconds between two tries to reach a server that is not there
LONGEST = 120.0  # seconds until an answer must have come


class Clients:
    """Threads that ask an endpoint without a break, from entering the context to leaving it.

    Attributes:
      seen: how many calls were answered, streamed, left, given up (without patience), refused (429), cut (the
        connection broke, as by a kill) or met no server.
      problems: answers of 5xx, and what makes no sense, in words.
    """

    def __init__(self, url: str, count: int = 4, seed: int = 0, model: str = "policy", tokens: int = 16):
        self.seen: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self._url = url
        self._model = model
        self._tokens = tokens
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(random.Random(seed + number),), daemon=True)
                         for number in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def manners(self) -> Sequence[Callable[[httpx.Client, random.Random], str]]:
        """What they do, one of these at a time; each returns the word for what came of it."""
        return self._whole, self._chat, self._stream, self._leave, self._give_up

    def _ask(self, generator: random.Random) -> None:
        with httpx.Client(base_url=self._url, timeout=LONGEST) as http:
            while not self._over.is_set():
                try:
                    self.seen[generator.choice(self.manners)(http, generator)] += 1
                except httpx.ConnectError:
                    self.seen["met no server"] += 1
                    self._over.wait(PAUSE)
                except httpx.TimeoutException:
                    self.problems.append(f"no answer within {LONGEST:g} seconds")
                except httpx.TransportError:
                    self.seen["cut"] += 1

    def _body(self, generator: random.Random, **more: Any) -> dict[str, Any]:
        return {"model": self._model, "max_tokens": self._tokens, "seed": generator.randrange(2**31), **more}

    def _whole(self, http: httpx.Client, generator: random.Random) -> str:
        body = self._body(generator, prompt=generator.choice(PROMPTS), n=2, logprobs=0, return_token_ids=True)
        answer = http.post("/v1/completions", json=body)
        if not self._good(answer):
            return "refused"
        for choice in answer.json()["choices"]:
            ids = choice["token_ids"]
            logprobs = choice["logprobs"]["token_logprobs"]
            if not 0 < len(ids) == len(logprobs) <= self._tokens:
                self.problems.append(f"{len(ids)} tokens with {len(logprobs)} log-probs")
        return "answered"

    def _chat(self, http: httpx.Client, generator: random.Random) -> str:
        messages = [{"role": "user", "content": generator.choice(PROMPTS)}]
        answer = http.post("/v1/chat/completions", json=self._body(generator, messages=messages))
        return "answered" if self._good(answer) else "refused"

    def _stream(self, http: httpx.Client, generator: random.Random) -> str:
        return self._read_events(http, generator, most=None)

    def _leave(self, http: httpx.Client, generator: random.Random) -> str:
        return self._read_events(http, generator, most=generator.randrange(3))

    def _read_events(self, http: httpx.Client, generator: random.Random, most: int | None) -> str:
        """Reads a stream to its end, or only its first events."""
        body = self._body(generator, prompt=generator.choice(PROMPTS), stream=True)
        with http.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
            if not self._good(answer):
                return "refused"
            events = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
            for number, event in enumerate(events):
                if number == most:
                    return "left"
                if event == "[DONE]":
                    return "streamed"
                if "error" in json.loads(event):
                    self.problems.append(f"a stream said {event[:200]}")
        return "cut"

    def _give_up(self, http: httpx.Client, generator: random.Random) -> str:
        body = self._body(generator, prompt=generator.choice(PROMPTS), n=4)
        try:
            answer = http.post("/v1/completions", json=body, timeout=httpx.Timeout(LONGEST, read=PATIENCE))
        except httpx.ReadTimeout:
            return "given up"
        return "answered" if self._good(answer) else "refused"

    def _good(self, answer: httpx.Response) -> bool:
        """Whether it is an answer; False for 429. Whatever else is a problem."""
        if answer.status_code not in (200, 429):
            self.problems.append(f"status {answer.status_code}: {answer.text[:200]}")
        return answer.status_code == 200
