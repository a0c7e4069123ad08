"""Requests to a rollout buffer: never a server's error, no item that is none, and none twice."""
import contextlib
import json
import pathlib
import random
import tempfile
from typing import Any

from jaxrl_moe.serving.buffer.groups import Rules
from tests.fuzz.reading import Damaged, broken, number, strict, text, truth, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import HttpTarget
from tests.fuzz.targets.serving import misshapen
from tests.helpers.buffers import buffer_server, written
from tests.helpers.games import Guessing

WRITE, READ, DATA, START = "/buffer/write", "/buffer/read", "/get_rollout_data", "/start_rollout"
STARTED: dict[str, Any] = {
    "task_type": "guessing", "input_file": "", "remote_engine_url": "http://127.0.0.1:1",
    "num_repeat_per_sample": "2", "num_epoch": "1", "num_process": "4", "max_tokens": "8", "gamma": "0.4",
    "sampling_params": {"temperature": 0.8}, "skip_instance_ids": ["a", 0], "max_turns": "3"}
FOREIGN: tuple[dict[str, Any], ...] = (
    {"uid": ""}, {"uid": None}, {"uid": "\ud800"}, {"uid": "u" * 5000}, {"instance_id": True},
    {"instance_id": 10**30}, {"instance_id": ""}, {"messages": []}, {"messages": [None]}, {"messages": "hi"},
    {"messages": [{"role": "user", "content": "\0" * 1000}]}, {"reward": 10**400}, {"reward": 1e308},
    {"reward": "1"}, {"reward": -7}, {"extra_info": None}, {"extra_info": {"\ud800": [[[]]]}}, {"more": 1},
    {"batch_size": 0}, {"batch_size": -1}, {"batch_size": 2**40}, {"timeout": -1}, {"timeout": 1e9},
    {"wait": "no"}, {"num_epoch": "1.5"}, {"num_epoch": "\u0663"}, {"num_repeat_per_sample": -1},
    {"gamma": "nan"}, {"gamma": "2"}, {"input_file": "/etc/passwd"}, {"input_file": "\0"},
    {"remote_engine_url": "http://169.254.169.254"}, {"task_type": "\ud800"}, {"max_turns": 10**9})
PATHS = (WRITE, READ, DATA, START, "/buffer/peek", "/buffer/peek?batch_size=0", "/buffer/peek?batch_size=x",
         "/buffer/peek?batch_size=3", "/buffer/stats", "/health", "/", "/metrics", "/docs", WRITE + "/", "//",
         READ + "?batch_size=1", READ + "?x=1", "/buffer/" + "a" * 3000)
RULES = {WRITE: {"uid": text, "reward": number(), "messages": lambda value: isinstance(value, list) and value,
                 "extra_info": lambda value: isinstance(value, dict)},
         READ: {"batch_size": whole(-1, 2**20), "timeout": number(0, 600), "wait": truth},
         DATA: {"batch_size": whole(-1, 2**20)}}


class BufferCalls(HttpTarget):
    """Requests to a server whose policy cannot be reached, and which cannot play the file that is named."""
    name = "buffer"

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        http, self.store = self.stack.enter_context(buffer_server(
            folder / "b.sqlite", rules=Rules(2, timeout=1e6), task=Guessing(), files=[folder / "none.jsonl"],
            api_key="key"))
        self.url = str(http.base_url).rstrip("/")
        self.listen()
        self.bodies = ((WRITE, written("a")), (WRITE, written("b", "a", 2.3)), (READ, {"batch_size": 1}),
                       (READ, {"batch_size": 3, "timeout": 0.01, "wait": True}), (DATA, {"batch_size": 2}),
                       (START, STARTED | {"input_file": str(folder / "none.jsonl")}))
        self.seen: set[str] = set()
        self.request = "POST", WRITE, json.dumps(self.bodies[0][1]).encode(), {}

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        path, body = rng.choice(self.bodies)
        if path == WRITE:
            body = body | {"uid": f"{rng.randrange(10**6)}"}
        elif path == READ:
            body = {"timeout": 0.01} | body
        return {}, self.mutated(rng, path, body, FOREIGN, lambda: PATHS)

    def call(self, arena):
        self.caught.error = None
        if self._waits():
            return 400, "closed", b"it would wait for longer than an input may take"
        answer = self.send(self.url, *self.request)
        if self.caught.error is not None:
            raise self.caught.error
        if answer[0] >= 500:
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        return answer

    def _waits(self) -> bool:
        """Whether the request lets the server wait for long."""
        _, path, data, _ = self.request
        try:
            sent = strict(data)
        except Damaged:
            return False
        seconds = sent.get("timeout", 10.0) if isinstance(sent, dict) else 0.0
        return path.startswith(READ) and (type(seconds) not in (int, float) or seconds > 2)

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, _ = self.request
        if kind == "closed" or method == "HEAD" or status == 307:
            return ""
        if status >= 400:
            return misshapen(status, kind, body)
        if method != "POST":
            return ""
        return self._taken(path.partition("?")[0], data, strict(body))

    def _taken(self, path: str, data: bytes, answer: dict[str, Any]) -> str:
        """What is wrong with an answer, or with the body that was taken."""
        try:
            sent = strict(data)
        except Damaged as error:
            return f"a damaged body was answered: {error}"
        wrong = broken(sent, RULES.get(path, {}))
        if wrong or path == START:
            return wrong or f"a rollout of no file was started: {str(sent)[:300]}"
        items = answer["data"]["data"]
        if path == WRITE:
            return "" if items == [sent] else f"another item was written: {str(items)[:300]}"
        uids = [each["uid"] for each in items]
        twice = self.seen.intersection(uids)
        self.seen.update(uids)
        return f"items were handed out twice: {twice}" if twice or len(set(uids)) < len(uids) else ""


TARGETS = (BufferCalls,)
