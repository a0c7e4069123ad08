"""Clients of an environment server, who play episodes that they know, or misbehave."""
import contextlib
import functools
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from benchmarks.soak.clients import LONGEST, Clients
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Action, EnvError, Status, Step

MOST_TURNS = 12  # that are played of an episode
JSON = {"Content-Type": "application/json"}


def textcraft_row(generator: random.Random) -> tuple[dict[str, Any], list[str]]:
    """(a row, the commands that solve it)."""
    from jaxrl_moe.envs.text.textcraft.goals import goal_set
    from jaxrl_moe.envs.text.textcraft.planner import plan
    goals = goal_set("small")
    number = generator.randrange(len(goals.goals))
    return {"id": number, "recipes": "small"}, plan(goals.book, goals.goals[number]).commands


def babyai_row(generator: random.Random) -> tuple[dict[str, Any], list[str]]:
    """(a row, moves that may do something)."""
    moves = ["turn left", "turn right", "move forward", "toggle", "go to red ball 1", "pick up grey key 1"]
    return {"id": generator.randrange(4000)}, generator.choices(moves, k=8)


# environment: (its task, what is played of it)
SERVED: Mapping[str, tuple[str, Callable[[random.Random], tuple[dict[str, Any], list[str]]]]] = {
    "textcraft": ("textcraft(recipes='small')", textcraft_row), "babyai": ("babyai", babyai_row)}

# Calls of /step that are wrong: bodies, and what the error says.
MALFORMED = ((b"", "empty"), (b"{", "no JSON"), (b'{"id": "\xff"}', "UTF-8"), (b"[]", ""),
             (b'{"id": NaN}', "NaN"), (b'{"id": 1, "action": 2}', "action"),
             (b'{"id": 1, "action": "a"}', "no session"),
             (b'{"id": -1, "action": "a"}', "id"), (b'{"action": "a"}', "id"))


class Players(Clients):
    """Clients that play episodes at a server of an environment, or misbehave.

    Args:
      url: of the server.
      count: of threads.
      local: plays the same in this process.
      remote: plays them at the server, as a run does.
      draw: a row and answers to it.
    """

    def __init__(self, url: str, count: int, local: Task, remote: Task,
                 draw: Callable[[random.Random], tuple[dict[str, Any], list[str]]]):
        super().__init__(url, count)
        self._local = local
        self._remote = remote
        self._draw = draw

    @property
    def manners(self) -> Sequence[Any]:
        every = (*[self._play] * 4, *[self._play_plainly] * 4, self._vanish, self._leave_a_call,
                 self._mistake, self._megabyte, self._too_late)
        return [functools.partial(self._told, manner) for manner in every]

    def _told(self, manner: Callable[[httpx.Client, random.Random], str], http: httpx.Client,
              generator: random.Random) -> str:
        try:
            return manner(http, generator)
        except EnvError as error:
            self.problems.append(f"{error.status}: {error}")
            return "failed"

    def _play(self, http: httpx.Client, generator: random.Random) -> str:
        row, answers = self._answers(generator)
        with (contextlib.closing(self._local.open(row, 0)) as here,
              contextlib.closing(self._remote.open(row, 0)) as there):
            self._expect(here.reset(), there.reset())
            for text in answers:
                expected = here.step(Action(text, 0, False))
                self._expect(expected, there.step(Action(text, 0, False)))
                if expected.done:
                    return "solved"
        return "played"

    def _play_plainly(self, http: httpx.Client, generator: random.Random) -> str:
        row, answers = self._answers(generator)
        number = self._begin(http, row)
        with contextlib.closing(self._local.open(row, 0)) as env:
            env.reset()
            for text in answers:
                expected = env.step(Action(text, 0, False))
                self._compare(self._asked(http, "/step", {"id": number, "action": text}), expected)
                if expected.done:
                    break
        self._asked(http, "/close", {"id": number})
        return "played plainly"

    def _vanish(self, http: httpx.Client, generator: random.Random) -> str:
        row, answers = self._answers(generator)
        number = self._begin(http, row)
        for text in answers[:generator.randrange(3)]:
            if self._asked(http, "/step", {"id": number, "action": text})["done"]:
                break
        return "vanished"

    def _leave_a_call(self, http: httpx.Client, generator: random.Random) -> str:
        row, answers = self._answers(generator)
        body = b'{"id": %d, "action": "inventory"}' % self._begin(http, row)
        url = httpx.URL(self._url)
        with socket.create_connection((url.host, url.port), timeout=LONGEST) as connection:
            head = (b"POST /step HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body))
            connection.sendall(head + body[:generator.choice([len(body) // 2, len(body)])])
        return "left in a call"

    def _mistake(self, http: httpx.Client, generator: random.Random) -> str:
        body, said = generator.choice(MALFORMED)
        self._refused(http, "/step", body, said)
        return "mistaken"

    def _megabyte(self, http: httpx.Client, generator: random.Random) -> str:
        number = self._begin(http, self._answers(generator)[0])
        self._refused(http, "/step", b'{"id": %d, "action": "%s"}' % (number, b"a" * 2**20), "action")
        self._asked(http, "/close", {"id": number})
        return "megabyte refused"

    def _too_late(self, http: httpx.Client, generator: random.Random) -> str:
        number = self._begin(http, self._answers(generator)[0])
        self._asked(http, "/close", {"id": number})
        self._refused(http, "/step", b'{"id": %d, "action": "a"}' % number, "no session")
        return "too late"

    def _answers(self, generator: random.Random) -> tuple[dict[str, Any], list[str]]:
        """(a row, answers to it: commands that do something, and some that do not)."""
        row, commands = self._draw(generator)
        odd = ["inventory", "no command", "Action: a\nAction: b", ""]
        answers = [text for command in commands
                   for text in [*generator.sample(odd, generator.randrange(2)), f"Action:\n{command}"]]
        return row, answers[:MOST_TURNS]

    def _begin(self, http: httpx.Client, row: Mapping[str, Any]) -> int:
        """A session that plays the row; compares what it shows first."""
        number = self._asked(http, "/create", {})["id"]
        shown = self._asked(http, "/reset", {"id": number, "data_idx": row["id"]})
        with contextlib.closing(self._local.open(row, 0)) as env:
            self._expect(env.reset()[0]["content"], shown["observation"])
        return number

    def _asked(self, http: httpx.Client, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = http.post(path, json=body)
        if answer.status_code != 200 or "error" in answer.json():
            raise EnvError(Status.STEP_FAILED, f"{path} answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def _refused(self, http: httpx.Client, path: str, body: bytes, said: str) -> None:
        answer = http.post(path, content=body, headers=JSON)
        error = answer.json().get("error")
        if answer.status_code != 200 or not isinstance(error, str) or said not in error or "\n" in error:
            told = f"{answer.status_code}: {answer.text[:200]}"
            self.problems.append(f"{path} answered {body[:40]!r} with {told}")

    def _compare(self, told: Mapping[str, Any], expected: Step) -> None:
        texts = [message["content"] for message in expected.observation] or [""]
        self._expect((texts[0], expected.reward, expected.done),
                     (told["observation"], told["reward"], told["done"]))

    def _expect(self, expected: object, got: object) -> None:
        if got != expected:
            self.problems.append(f"an episode showed {got!r:.300}, where its own has {expected!r:.300}")
