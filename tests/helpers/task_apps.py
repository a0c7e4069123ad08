"""Task apps in threads on loopback, policies that answer by a function, and texts that fulfil a brief."""
import contextlib
import itertools

import httpx

from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.app import TaskAppService, make_app
from jaxrl_moe.serving.tasks.judging import JudgeOptions, Judging
from jaxrl_moe.serving.tasks.keys import TaskKeys
from jaxrl_moe.serving.tasks.play import Player
from jaxrl_moe.serving.tasks.rollouts import Rollouts
from tests.helpers.json_server import chat_answer, json_server

KEY = "sk_env_0123456789"


@contextlib.contextmanager
def task_app(task=None, *, keys=(KEY,), judge=None, scorer=None, allow=(), rollouts=4, timeout=30.0):
    """(http client with the first key, what is served) of a task app; of texts, unless a task is given."""
    task = task or AgoraTexts()
    judging = Judging(judge or JudgeOptions(), task.name, task.rubric, scorer)
    player = Player(task, judging, Allowed(allow, "--allow_policy"), timeout)
    service = TaskAppService(player, Rollouts(player.play, rollouts), TaskKeys(keys))
    headers = {"X-API-Key": keys[0]} if keys else {}
    with HttpServer(service, make_app, api_key="".join(keys[:1]), grace=1) as server:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            yield http, service


@contextlib.contextmanager
def policy(*texts):
    """(base URL, what it was asked) of a policy that writes these texts one after the other, over and over;
    one may be a function of the request's body."""
    answers = itertools.cycle(texts)

    def answer(path, body, headers):
        assert path == "/v1/chat/completions", path
        text = next(answers)
        given = text(body) if callable(text) else text
        return chat_answer(given) if isinstance(given, str) else given

    with json_server(answer) as (url, asked):
        yield f"{url}/v1", asked


def request(url, run_id="r", seed=0, **others):
    """The body of a rollout."""
    return {"run_id": run_id, "env": {"env_name": "agora_ex_text", "seed": seed},
            "policy": {"policy_name": "writer", "config": {"model": "tiny", "inference_url": url}}, **others}


def good_text(seed=0):
    """A text that keeps all rules."""
    facts = AgoraTexts().open(seed).facts
    least, most = facts["words"]
    lines = [facts["who"], "", *facts["items"]]
    words = sum(len(line.split()) for line in lines)
    return "\n".join([*lines, " ".join(["word"] * ((least + most) // 2 - words))])
