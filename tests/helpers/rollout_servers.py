"""Environment servers that play episodes themselves, and the policies that they ask."""
import contextlib
import re

import httpx

from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.envs.wires import WIRES
from jaxrl_moe.serving.rollouts.rollouts import Rollouts
from jaxrl_moe.serving.server import HttpServer
from tests.helpers.json_server import chat_answer, json_server


@contextlib.contextmanager
def rollout_server(task, *, name="guessing", api_key="", allow=(), sessions=64, idle=1800.0, **options):
    """(http client with the key, what is served) of a server over a task."""
    held = Sessions(task, most=sessions, idle_seconds=idle)
    rollouts = Rollouts(name, task.max_turns, held, Allowed(allow, "--allow_base_url"), **options)
    service = EnvService(name, WIRES["textcraft"], held, rollouts)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with HttpServer(service, make_app, api_key=api_key, grace=1) as server:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            yield http, service


@contextlib.contextmanager
def policy(say):
    """(base URL without /v1, what it was asked) of a policy: `say` gives the text of a body's next turn, or
    the whole answer, or (status, answer)."""
    def answer(path, body, headers):
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": "no such path"}}
        said = say(body)
        return chat_answer(said) if isinstance(said, str) else said

    with json_server(answer) as (url, asked):
        yield url, asked


def answering(answer, env="fake"):
    """(url, what it was asked) of a server of an environment that gives an answer to POST /rollouts."""
    return json_server(lambda path, *_: {"env": env} if path == "/health" else answer)


def body(url, ids, **others):
    """Of a request."""
    return {"env": "guessing", "model": "tiny", "base_url": url, "ids": ids, "max_round": 10} | others


def game_of(body):
    """The number of the game that a conversation is about."""
    shown = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return int(re.search(r"Game (\d+)", shown)[1])


def turn_of(body):
    """Turns that were taken before."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def finds(body):
    """One guess beyond, for 0.25, and then the number, for 1."""
    return f"Thought:\nI see.\n\nAction:\n{game_of(body) if turn_of(body) else 200}"


def calls_function(name, arguments, number="call_a"):
    """An answer that calls a function."""
    message = {"role": "assistant", "content": None, "tool_calls": [
        {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}]}
    return {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
