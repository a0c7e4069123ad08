"""Bodies of POST /rollouts: never a server's error, no call of an address that nobody allowed, and no session
left behind."""
import contextlib
import http.server
import json
import pathlib
import random
import socket
import threading
import time
from typing import Any

from jaxrl_moe.envs import make_task
from jaxrl_moe.serving.rollouts.bodies import LONGEST_NAME, MOST_IDS, MOST_ROUNDS
from tests.fuzz.reading import Damaged, broken, number, strict, text, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import HttpTarget
from tests.fuzz.targets.plain_refusals import PlainRefusals
from tests.helpers.rollout_servers import policy, rollout_server

COMMAND = "Thought:\nIt is a flower.\n\nAction:\nget 1 flower"
PATHS = ("/rollouts", "/rollouts/", "/ROLLOUTS", "/rollouts?id=1", "/rollouts?x=1", "//rollouts", "/rollout",
         "/" + "a" * 3000)
SPELT = ("http://{ip}:{port}", "http://{ip}:{port}/v1", "http://0.0.0.0:{port}", "http://2130706433:{port}",
         "http://0x7f.1:{port}", "http://127.1:{port}", "http://[::ffff:127.0.0.1]:{port}",
         "http://0177.0.0.1:{port}", "http://user@127.0.0.1:{port}", "http://127.0.0.1.nip.io:{port}",
         "http://localhost.:{port}", "ftp://127.0.0.1:{port}", "http://169.254.169.254/", "http://[::]:{port}",
         "http://169.254.169.254.:80", "http://127.0.0.1:{port}?x", "http://127.0.0.1:{port}#x",
         "http://[fe80::1%25eth0]:{port}", "http://\uff11\uff12\uff17.0.0.1:{port}", "http://127.0.0.1:{port}0000",
         "http://%31%32%37.0.0.1:{port}", "http://127.0.0.1\\@{ip}:{port}", "http://{ip}:{port}@127.0.0.1:1")
FOREIGN: tuple[dict[str, Any], ...] = (
    {"ids": []}, {"ids": [-1]}, {"ids": [True]}, {"ids": [1.0]}, {"ids": ["textcraft_1"]},
    {"ids": ["\ud800"]}, {"ids": [10**30]}, {"ids": list(range(MOST_IDS + 1))}, {"ids": [0, 0, 0]},
    {"ids": [99999, 0]}, {"ids": "0"}, {"ids": [""]}, {"ids": [[0]]}, {"env": "babyai"}, {"env": "\ud800"},
    {"env": "x" * (LONGEST_NAME + 1)},
    {"model": ""}, {"model": "\0"}, {"max_round": 0}, {"max_round": MOST_ROUNDS + 1}, {"max_round": None},
    {"max_round": "3"}, {"api_key": "a b"}, {"api_key": "\n"}, {"api_key": "k"}, {"api_key": "\u00e9"},
    {"temperature": -1}, {"temperature": 1}, {"top_p": 0}, {"top_k": -2}, {"min_p": 1}, {"max_tokens": 0},
    {"seed": 2**63}, {"seed": -2**63}, {"stop": []}, {"stop": ["a"] * 17}, {"stop": 3}, {"messages": []},
    {"headers": {"Host": "x"}}, {"proxy": "http://127.0.0.1"}, {"base_url": ""}, {"base_url": "x" * 5000},
    {"base_url": "http://127.0.0.1:1"}, {"base_url": "http://127.0.0.1:0"}, {"base_url": "http://[::1]:1/v1"})
RULES = {"env": text, "model": text, "base_url": text, "max_round": whole(1, MOST_ROUNDS),
         "temperature": number(0), "top_p": number(0, 1), "top_k": whole(-1), "min_p": number(0, 1),
         "max_tokens": whole(), "seed": whole(-2**63, 2**63 - 1), "api_key": text}
READ = {*RULES, "ids", "stop"}
TOLD = {"task_name": text, "num_evaluated": whole(0), "time_taken": number(0)}


class RolloutsBodies(PlainRefusals):
    """Requests to a TextCraft server, whose policy is on loopback; another listener there is reached by other
    names alone, which nobody has allowed."""
    name = "rollouts"
    loggers = (*HttpTarget.loggers, "jaxrl_moe.serving.envs.session", "jaxrl_moe.serving.envs.sessions",
               "jaxrl_moe.serving.rollouts.rollouts", "asyncio")

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        task = make_task("textcraft(recipes='small')")
        http, self.service = self.stack.enter_context(rollout_server(
            task, name="textcraft", api_key="key", sessions=4, policy_timeout=0.3, seconds=3.0))
        self.url = str(http.base_url).rstrip("/")
        self.policy, _ = self.stack.enter_context(policy(lambda body: COMMAND))
        self.forbidden = self.stack.enter_context(_listener(self.policy))
        self.listen()
        self.request = "POST", "/rollouts", json.dumps(self._ordinary()).encode(), {}

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def _ordinary(self) -> dict[str, Any]:
        return {"env": "textcraft", "model": "m", "base_url": self.policy, "ids": [0, 3], "max_round": 2,
                "temperature": 1.0, "seed": 3}

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        port = self.forbidden.server_address[1]
        urls = [{"base_url": each.format(ip=_own_address(), port=port)} for each in SPELT]
        added = FOREIGN if rng.random() < 0.5 else urls
        return {}, self.mutated(rng, "/rollouts", self._ordinary(), added, lambda: PATHS, share=0.4)

    def call(self, arena):
        answer = self.answered(self.url)
        if self.forbidden.calls:
            raise Wrong("an address was called that nobody has allowed", str(self.request[2][:300]))
        self._check_left()
        return answer

    def _check_left(self) -> None:
        """Raises Wrong where a session is left, a moment after its client has been answered, or has left."""
        end = time.monotonic() + 4
        while (left := (self.service.sessions.held, self.service.rollouts.held)) != (0, 0):
            if time.monotonic() > end:
                raise Wrong("a session was leaked", f"{left[0]} held, {left[1]} at work")
            time.sleep(0.01)

    def judge_answer(self, method: str, path: str, data: bytes, answer: Any) -> str:
        if method != "POST":
            return f"a refusal of another shape: {str(answer)[:200]}"
        return _answered(data, answer)


def _answered(data: bytes, answer: dict[str, Any]) -> str:
    """What is wrong with an answer, or with the body that was taken."""
    try:
        sent = strict(data)
    except Damaged as error:
        return f"a damaged body was answered: {error}"
    if not isinstance(sent, dict) or sent.keys() - READ:
        return f"a body with what nothing reads was taken: {str(sent)[:200]}"
    given = {key: value for key, value in sent.items() if value is not None}
    if wrong := broken(given, RULES) or broken(answer, TOLD):
        return wrong
    details = answer["details"]
    if [each["id"] for each in details] != sent["ids"]:
        return f"episodes of other ids: {str(details)[:300]}"
    sound = [each for each in details if "error" not in each]
    rewards = [each["reward"] for each in sound]
    mean = sum(rewards) / len(rewards) if sound else None
    if (answer["num_evaluated"], answer["total_score"]) != (len(sound), mean):
        return f"means of something else: {str(answer)[:300]}"
    if any(each["reward"] is not None or "Traceback" in each["error"] for each in details if "error" in each):
        return f"a failure with a reward or a trace: {str(details)[:300]}"
    return "" if all(isinstance(each["experiences"], list) for each in sound) else "no conversation"


def _own_address() -> str:
    """An address of this machine beside loopback, if it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "0.0.0.0"
        return probe.getsockname()[0]


@contextlib.contextmanager
def _listener(beside: str):
    """A server at all addresses of this machine, which counts what it is asked; its port is not that of
    `beside`."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.calls += 1
            self.send_error(500)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    server.calls = 0
    assert not beside.endswith(f":{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


TARGETS = (RolloutsBodies,)
