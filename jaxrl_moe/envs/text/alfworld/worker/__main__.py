"""Plays games by ALFWorld's rules for whoever started it, one JSON object a line each way. It runs in an
environment of its own, which has the package alfworld and nothing of this library.

It says {"alfworld": version, "textworld": version} first. Then to
  {"call": "begin", "episode": number, "file": path} or
  {"call": "begin", "episode": number, "problem": PDDL, "task", "thing", "place", "phrase"} and
  {"call": "step", "episode": number, "command": text}
the answer is {"observation": text, "actions": [commands], "won": boolean}. To {"call": "end", "episode":
number} it is {}, to {"call": "data", "problem" and what else describes a game} the game as ALFWorld keeps it
in a file, and to what cannot be done {"error": text}.
"""
import functools
import importlib.metadata
import json
import os
import queue
import select
import sys
import threading

LOOK_SECONDS = 1.0  # how soon it ends after whoever started it has vanished without closing the pipe


class Games:
    """The episodes that are open, by number."""

    def __init__(self):
        self._open = {}
        self._idle = []  # environments, each of which holds a copy of the planner's library

    def begin(self, episode, **game):
        env = self._idle.pop() if self._idle else make_env()
        self._open[episode] = env
        env.load(read_game(game["file"]) if "file" in game else make_data(**game))
        state = env.reset()
        _, _, shown = state.feedback.partition("\n\n")  # without the welcome
        return told(state, shown.replace("\n\n", "\n"))

    def step(self, episode, command):
        state, _, _ = self._open[episode].step(command)
        return told(state, state.feedback)

    def end(self, episode):
        env = self._open.pop(episode, None)  # None: it could not be begun
        self._idle.extend([env] * (env is not None))
        return {}


class Remembering:
    """A parser that parses each text once."""

    def __init__(self, parser):
        self.parse = functools.lru_cache(4096)(parser.parse)


def remember():
    """Has the libraries work out once what they would work out for every episode and command anew: parsed
    grammar and games in the planner's form, of which they ask for a second kind that nobody here uses."""
    import fast_downward
    from textworld import logic
    from textworld.envs.pddl import logic as games
    from textworld.envs.pddl import textgen
    for module in (logic, games, textgen):
        module._PARSER = Remembering(module._PARSER)
    translated = functools.lru_cache(64)(fast_downward.pddl2sas)
    fast_downward.pddl2sas = lambda domain, problem, **ways: translated(domain, problem)


def told(state, observation):
    if observation.startswith("You arrive at loc "):  # of older games; AgentGym's server leaves it out
        observation = observation.partition(". ")[2]
    return {"observation": observation.strip(), "actions": state["admissible_commands"],
            "won": bool(state["won"])}


def make_env():
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv
    return AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)), shuffle=False)


def read_game(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def make_data(problem, task, thing, place, phrase):
    """A game as ALFWorld keeps it in a file, of a problem by the domain and the grammar of the package."""
    from alfworld.gen import goal_library
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH
    template = goal_library.gdict[task]["templates"][phrase]
    goal = template.format(obj=thing.lower(), recep=place.lower(), toggle=place.lower())
    return {"pddl_domain": text_of(ALFRED_PDDL_PATH), "pddl_problem": problem,
            "grammar": text_of(ALFRED_TWL2_PATH).replace("UNKNOWN GOAL", goal)}


@functools.cache
def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def serve(requests, answers):
    games = Games()
    calls = {"begin": games.begin, "step": games.step, "end": games.end, "data": make_data}
    while True:
        request = json.loads(requests.get())
        try:
            answer = calls[request.pop("call")](**request)
        except Exception as error:  # whoever asked is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(answers, answer)


def say(answers, answer):
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def read(lines, requests):
    """Takes requests; ends the process when there can be no more, also in the middle of an answer."""
    parent = os.getppid()
    buffer = b""
    while os.getppid() == parent:
        ready, _, _ = select.select([lines], [], [], LOOK_SECONDS)
        if not ready:
            continue
        part = os.read(lines, 65536)
        if not part:
            break
        *whole, buffer = (buffer + part).split(b"\n")
        for line in whole:
            requests.put(line)
    os._exit(0)


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries print is no answer
    requests = queue.SimpleQueue()
    threading.Thread(target=read, args=(0, requests), daemon=True).start()
    remember()
    make_env()  # all that is imported is there, before anybody counts on it
    say(answers, {name: importlib.metadata.version(name) for name in ("alfworld", "textworld")})
    serve(requests, answers)


if __name__ == "__main__":
    sys.exit(main())
