"""Requests to a judge server, and answers of the models that judge: never a server's error, and never a score
that nobody gave."""
import contextlib
import json
import pathlib
import random
from typing import Any

from jaxrl_moe.judges.ai import AiJudge
from jaxrl_moe.judges.chat import ChatEndpoint, answer_fields
from jaxrl_moe.judges.questions import rubric_question
from jaxrl_moe.judges.records import Ask, Part, Work
from tests.fuzz.mutators import mutate_bytes, mutate_json
from tests.fuzz.reading import Damaged, broken, strict, text, truth, whole
from tests.fuzz.runner import Target, Wrong
from tests.fuzz.targets.http import HttpTarget
from tests.fuzz.targets.serving import misshapen
from tests.helpers.chat_server import ChatServer
from tests.helpers.judge_servers import PAGE, ScriptedJudge, judge_server

SCORE = "/api/judge/v1/score"
ITEM = "/api/judge/v1/items/"
WORK = Work("Build a page.", ("<p>I am", "<p>I am a page"),
            (Part("html", "<p>"), Part("png", "cGljdHVyZQ==")))
BODIES: tuple[dict[str, Any], ...] = (
    {"task_app": {"id": "agora_ex"}, "trace": WORK.plain()},
    {"task_app": {"id": "agora_ex", "base_url": "http://a"}, "policy_name": "p", "trace": {"song": ["la", 3]},
     "options": {"rubric_id": "page", "model": "m", "max_concurrency": 4}},
    {"task_app": {"id": "a"}, "trace": WORK.plain(), "options": {"event": True, "outcome": True, "run": "r",
                                                                 "mode": "rubric", "provider": "model"}},
    {"task_app": {"id": "a"}, "trace": WORK.plain(), "options": {"provider": "human",
                                                                 "rubric_overrides": PAGE.plain()}},
    {"task_app": {"id": "a"}, "trace": {"turns": [{"text": "3"}], "group": "g", "group_size": 3, "copy": 1},
     "options": {"mode": "pairwise", "rubric_overrides": {"title": {"weight": 0.125, "scale": "bounded"}}}})
FOREIGN: tuple[dict[str, Any], ...] = (
    {"task_app": None}, {"task_app": {"id": "\ud800"}}, {"trace": []}, {"trace": {}},
    {"trace": {"turns": []}},
    {"trace": {"turns": [{"text": "\ud800\0"}]}},
    {"trace": {"turns": [{"text": "x" * 100_000}]}},
    {"trace": {"artifacts": [{"kind": "png", "content": "%"}]}},
    {"options": None},
    {"options": {"mode": "best"}}, {"options": {"outcome": False}}, {"options": {"max_concurrency": 0}},
    {"options": {"provider": "modle"}},
    {"options": {"rubric_id": "../page"}}, {"options": {"rubric_overrides": {"criteria": [{}]}}},
    {"options": {"rubric_overrides": {"title": {"weight": 10**400}}}}, {"judge": "me"}, {"status": "ok"},
    {"options": {"rubric_overrides": {"id": "r", "criteria": [{"id": " ", "description": ""}]}}},
    {"options": {"event": True}, "trace": {"artifacts": [{"kind": "text", "content": ""}]}})
PATHS = ("/", "/health", "/metrics", "/docs", ITEM, ITEM + "model.0", ITEM + "model.", ITEM + "human.%00",
         ITEM + "human.%ff", ITEM + "x" * 3000, ITEM + "model.0?wait=-1", ITEM + "model.0?wait=nan",
         ITEM + "model.0?wait=1e400", SCORE + "?wait=0", SCORE + "?wait=a", SCORE + "?wiat=1", SCORE + "/")
RULES = {"policy_name": text, "task_app": lambda value: isinstance(value, dict) and text(value.get("id")),
         "trace": lambda value: isinstance(value, dict)}
OPTIONS = {"event": truth, "outcome": lambda value: value is True, "rubric_id": text, "provider": text,
           "model": text, "run": text, "max_concurrency": whole(1, 2**62), "rubric_overrides": lambda value:
           isinstance(value, dict), "mode": lambda value: value in ("rubric", "pairwise", "ranking")}


def filled(body: dict[str, Any]) -> str:
    """A model's answer of the form that is asked for, with a full score of everything."""
    fields = body["response_format"]["json_schema"]["schema"]["properties"]
    labels = fields.get("ranking", {}).get("items", {}).get("enum")
    values = {"rationale": "", "winner": "first", "ranking": labels}
    full = {name: dict.fromkeys(schema.get("properties", ()), 1) for name, schema in fields.items()}
    return json.dumps({name: values.get(name, full[name]) for name in fields})


class JudgeCalls(HttpTarget):
    """Requests to a server with a model, which finds everything perfect, and people, who say nothing."""
    name = "judge_calls"
    loggers = (*HttpTarget.loggers, "jaxrl_moe.judges.ai")

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        model = self.stack.enter_context(ChatServer(filled))
        judge = AiJudge(ChatEndpoint(model.url, "m", retries=0), concurrency=4)
        judges = {"model": {"m": judge}, "human": {"": ScriptedJudge()}}
        self.url, self.service = self.stack.enter_context(judge_server(judges, api_key="key"))
        self.listen()
        self.request = "POST", SCORE + "?wait=1", json.dumps(BODIES[0]).encode(), {}

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        body = rng.choice(BODIES)
        wait = 1 if body.get("options", {}).get("mode") != "pairwise" else 0
        path = f"{SCORE}?wait={wait}"
        return {}, self.mutated(rng, path, body, FOREIGN, lambda: (path, *PATHS))

    def call(self, arena):
        self.caught.error = None
        answer = self.send(self.url, *self.request)
        if self.caught.error is not None:
            raise self.caught.error
        if answer[0] >= 500:
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        if self.service.held:
            raise Wrong("a call is held on")
        return answer

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, _ = self.request
        if kind == "closed" or method == "HEAD" or status == 307:
            return ""
        if status >= 400:
            return misshapen(status, kind, body)
        return _answered(data, strict(body)) if method == "POST" and path.startswith(SCORE) else ""


def _answered(data: bytes, answer: dict[str, Any]) -> str:
    """What is wrong with an answer about a work, or with the body that was taken."""
    try:
        sent = strict(data)
    except Damaged as error:
        return f"a damaged body was answered: {error}"
    options = sent.get("options") or {}
    if sent.keys() - {"policy_name", "task_app", "trace", "options"} or options.keys() - OPTIONS.keys():
        return f"a body with what nothing reads was taken: {str(sent)[:200]}"
    wrong = broken(sent, RULES) or broken(options, OPTIONS)
    if wrong or answer["status"] != "ok":
        return wrong or ("" if answer["outcome_reward"] == {} else f"a reward of {answer['status']}")
    total = answer["outcome_reward"]["total"]
    return "" if type(total) is float and 0 <= total <= 1 else f"a reward out of its bounds: {total}"


class JudgeAnswers(Target):
    """What a model answers, damaged: it is taken where its scores are those of the rubric, or refused."""
    name = "judge_answers"
    named = False
    good: bytes = json.dumps({"rationale": "Tidy.", "scores": {"layout": 0.5, "title": 1},
                              "turns": {"turn_1": 0.25, "turn_2": 1}}).encode()

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.question = rubric_question(WORK, Ask(PAGE, turns=True), False)
        self.answer = self.good

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        mutate = mutate_bytes if rng.random() < 0.3 else mutate_json
        self.answer, done = mutate(rng, self.good)
        return {}, done

    def call(self, arena):
        return self.question.read(answer_fields(self.answer.decode(errors="replace")))

    def judge(self, arena, result):
        scores, turns = result
        try:
            said = strict(self.answer.decode(errors="replace").encode())
        except Damaged as error:
            return f"a damaged answer was taken: {error}"
        if said.keys() - {"rationale", "scores", "turns"}:
            return f"an answer with more was taken: {list(said)}"
        given = {"scores": scores, "turns": {"turn_1": turns[0], "turn_2": turns[1]}}
        if any(said[name] != values for name, values in given.items()):
            return f"other scores than were given: {given}"
        bounded = [scores["layout"], *turns]
        fits = all(0 <= value <= 1 for value in bounded) and scores["title"] in (0, 1)
        values = [value for name in given for value in said[name].values()]
        strange = [value for value in values if type(value) not in (int, float)]
        return "" if fits and not strange else f"scores out of their scales: {given} {strange}"


TARGETS = (JudgeCalls, JudgeAnswers)
