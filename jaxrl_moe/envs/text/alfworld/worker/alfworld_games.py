"""Plays games by ALFWorld's rules, in an environment that has the package alfworld.

It begins with {"alfworld": version, "textworld": version}. `reset` takes a game, {"file": path} or
{"problem": PDDL, "task", "thing", "place", "phrase"}, and `step` {"command": text}; both tell {"observation":
text, "actions": [commands], "won": boolean}. With "in_full": true `reset` tells "data" too, the game as
ALFWorld keeps it in a file.
"""
import functools
import importlib.metadata
import json

from worker_loop import serve


class Games:
    """ALFWorld, and the environments that no episode uses now: each holds a copy of the planner's library."""

    def __init__(self):
        self._idle = []

    def begin(self):
        remember()
        self._idle.append(make_env())  # all that is imported is there, before anybody counts on it
        return {name: importlib.metadata.version(name) for name in ("alfworld", "textworld")}

    def open(self, in_full=False, **game):
        data = read_game(game["file"]) if "file" in game else make_data(**game)
        return Game(self._idle, data, in_full)


class Game:
    """One episode."""

    def __init__(self, idle, data, in_full):
        self._idle = idle
        self._env = idle.pop() if idle else make_env()
        self._data = data
        self._in_full = in_full

    def reset(self):
        self._env.load(self._data)
        state = self._env.reset()
        _, _, shown = state.feedback.partition("\n\n")  # without the welcome
        return told(state, shown.replace("\n\n", "\n")) | ({"data": self._data} if self._in_full else {})

    def step(self, command):
        state, _, _ = self._env.step(command)
        return told(state, state.feedback)

    def close(self):
        self._idle.append(self._env)


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


if __name__ == "__main__":
    serve(Games())
