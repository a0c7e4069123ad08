"""A task app that is written from the contract alone, and can go wrong with each of its calls."""
import collections
import json
import re
import threading
import urllib.error
import urllib.request

from tests.helpers.fakes import Call, Fake, send

TURNS = 2


def reward_of(text):
    """Of a turn, by what the policy wrote: 0, 0.5 or 1."""
    return len(text) % 3 / 2


def chat(policy, messages):
    """What the policy says, as of OpenAI's clients."""
    wishes = {name: policy[name] for name in ("model", "temperature", "top_p", "max_tokens")}
    body = json.dumps({**wishes, "messages": messages}).encode()
    call = urllib.request.Request(f"{policy['inference_url']}/chat/completions", body,
                                  {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=120) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def conversation(body, turns=TURNS):
    """What the policy says in a rollout of so many turns."""
    messages = [{"role": "user", "content": f"Instance {body['env']['seed']}."}]
    texts = []
    for turn in range(turns):
        texts.append(chat(body["policy"]["config"], messages))
        messages += [{"role": "assistant", "content": texts[-1]},
                     {"role": "user", "content": f"Seen {turn}."}]
    return texts


def told(body, texts, **metrics):
    """The answer for a rollout in which the policy said this: achievements stand from the first turn on whose
    text is even."""
    steps = []
    for number, text in enumerate(texts):
        names = [f"turn {at}" for at, said in enumerate(texts[:number + 1]) if len(said) % 2 == 0]
        steps.append({"obs": {"text": f"Seen {number}."}, "tool_calls": [{"name": "say", "arguments": text}],
                      "reward": reward_of(text), "done": number == len(texts) - 1, "truncated": False,
                      "info": {"achievements": names}})
    total = sum(step["reward"] for step in steps)
    scores = {"events_score": reward_of(texts[0]), "outcome_score": reward_of(texts[-1]),
              "details": {"correct": total > 0, "words": len(texts[0].split()), "note": "none"}}
    trajectory = {"env_id": "one", "policy_id": "two", "steps": steps, "final": None, "length": len(steps)}
    trace = {"task": f"Instance {body['env']['seed']}.", "turns": [{"text": text} for text in texts],
             "artifacts": []}
    return {"run_id": body["run_id"], "trajectories": [trajectory], "branches": {},
            "metrics": {"episode_returns": [total], "mean_return": total, "num_steps": len(steps),
                        "num_episodes": 1, **scores, **metrics},
            "aborted": False, "ops_executed": 2 * len(steps),
            "trace": trace if body["record"]["return_trace"] else None}


def played(body):
    """A rollout with the policy of a run."""
    return told(body, conversation(body))


def scripted(*texts):
    """Rollouts without a policy."""
    return lambda body: told(body, texts)


def damaged(answer, damage):
    """An answer with one thing wrong, by its name."""
    trajectory = answer["trajectories"][0]
    last = trajectory["steps"][-1]
    if damage == "other run":
        answer["run_id"] = "another"
    elif damage == "aborted":
        answer["aborted"] = True
    elif damage == "twice":
        answer["trajectories"] *= 2
    elif damage == "none":
        answer["trajectories"] = []
    elif damage == "empty":
        trajectory["steps"] = []
    elif damage == "undone":
        last["done"] = False
    elif damage == "truncated":
        last |= {"done": False, "truncated": True}
    elif damage == "early":
        trajectory["steps"][0]["done"] = True
    elif damage == "length":
        trajectory["length"] += 1
    elif damage == "unrewarded":
        for step in trajectory["steps"]:
            step["reward"] = None
    elif damage == "unscored":
        answer["metrics"]["outcome_score"] = None
    elif damage == "text":
        last["reward"] = "1"
    elif damage == "nan":
        last["reward"] = float("nan")
    elif damage == "no metrics":
        del answer["metrics"]
    elif damage == "one step":
        trajectory |= {"steps": trajectory["steps"][-1:], "length": 1}
    elif damage == "list":
        answer = [answer]
    return answer


class FakeTaskApp(Fake):
    """A server of one task.

    Args:
      play: makes the answer to POST /rollout of its body.
      key: that it demands; empty: none.
      port: 0: a free one.

    Attributes:
      fault: what goes wrong with rollouts: "", "hang", "drop", a status such as "500", or what `damaged`
        knows. Several with commas between take turns.
      after: how many are answered well before.
      healthy, info: what /health and /info say.
      asked: the bodies of /rollout in order; `answers` what was answered, by run_id.
      most: rollouts that were at work at a time.
    """

    def __init__(self, play=None, key="", fault="", after=0, port=0):
        self.play = play or scripted("one", "three")
        self.key = key
        self.fault = fault
        self.after = after
        self.healthy = True
        self.info = {"service": {"task": {"id": "fake", "name": "Fake"}, "version": "1"}}
        self.asked = []
        self.answers = {}
        self.most = 0
        self.working = 0
        self.failed = 0
        self.calls = collections.Counter()
        self._door = threading.Lock()
        outer = self

        class Handler(Call):
            def do_GET(self):
                outer.calls[self.path] += 1
                if outer.refused(self):
                    return
                answers = {"/health": {"healthy": outer.healthy, "auth": {"required": bool(outer.key)}},
                           "/info": outer.info}
                known = self.path in answers
                send(self, 200 if known else 404, answers.get(self.path, {"detail": "Not Found"}))

            def do_POST(self):
                body = self.read()
                if not outer.refused(self):
                    outer.rollout(self, body)

        self.listen(Handler, port)

    def refused(self, request):
        if request.headers.get("X-API-Key", "") == self.key:
            return False
        send(request, 401, {"detail": "The API key is missing or wrong."})
        return True

    def rollout(self, request, body):
        with self._door:
            self.asked.append(body)
            self.working += 1
            self.most = max(self.most, self.working)
            faults = self.fault.split(",")
            fault = faults[len(self.asked) % len(faults)] if len(self.asked) > self.after else ""
            self.failed += bool(fault)
        try:
            self._answer(request, body, fault)
        finally:
            with self._door:
                self.working -= 1

    def _answer(self, request, body, fault):
        if fault == "hang":
            self.hang(request)
        elif fault == "drop":
            request.close_connection = True
        elif re.fullmatch("[0-9]{3}", fault):
            send(request, int(fault), {"detail": "This went wrong."})
        else:
            try:
                answer = damaged(self.play(body), fault)
            except (OSError, urllib.error.URLError) as error:
                send(request, 500, {"detail": f"The policy cannot be called: {error}"})
                return
            self.answers[body["run_id"]] = answer
            send(request, 200, answer)


class ModelsOnly(Fake):
    """A session's endpoint that says how it draws, and draws nothing."""

    def __init__(self):
        sampling = {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "min_p": 0.0, "max_tokens": 64}
        models = {"object": "list", "data": [{"id": "policy", "sampling": sampling}]}

        class Handler(Call):
            def do_GET(self):
                send(self, 200 if self.path.endswith("/v1/models") else 404, models)

        self.listen(Handler)
