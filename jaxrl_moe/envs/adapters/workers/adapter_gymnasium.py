"""Plays environments of Gymnasium in words: observations as text, actions by number or name."""
import json
import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from worker_loop import Refused, serve

MOST_NUMBERS = 512  # of an observation that is shown as numbers
MOST_NAMED = 40     # actions that are listed
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_COLOURED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m", re.DOTALL)
_CODE = re.compile(r"\x1b\[[\d;]*[A-Za-z]")


def uncoloured(text: str) -> str:
    """What terminals colour, with the colours in words: {red S}; boards mark by them where things are."""
    while _COLOURED.search(text):
        text = _COLOURED.sub(_in_words, text)
    return _CODE.sub("", text)


def _in_words(match: re.Match) -> str:
    codes = [int(code) for code in match[1].split(";") if code]
    colours = [_COLOURS[code % 10] for code in codes if code // 10 in (3, 4, 9, 10) and code % 10 < 8]
    inner = match[2] if match[2].strip() else "_" * len(match[2])
    return f"{{{' '.join([*colours, inner])}}}" if colours else inner


def as_text(space: spaces.Space, value: Any) -> str:
    """An observation: a text as it is, all else as JSON."""
    return value if isinstance(space, spaces.Text) else json.dumps(space_json(value))


def space_json(value: Any) -> Any:
    """A value of a space as plain lists, numbers and texts."""
    if isinstance(value, dict):
        return {str(name): space_json(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [space_json(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def numbers_of(space: spaces.Space) -> int:
    """How many numbers an observation shows; of one without a fixed size none are counted."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.values() if isinstance(space, spaces.Dict) else space
        return sum(map(numbers_of, parts))
    if isinstance(space, spaces.Text):
        return 0
    return int(np.prod(space.shape)) if space.shape is not None else 0


class Gymnasium:
    """One environment's id with its options."""

    def begin(self, id: str, options: dict[str, Any], names: Sequence[str], view: str,
              success: float | None) -> dict[str, Any]:
        self._id = id
        self._options = options
        self._success = success
        self._names = list(names)
        self._rendered = False
        trial = self._made()
        try:
            modes = trial.metadata.get("render_modes") or ()
            if view == "render" and "ansi" not in modes:
                raise Refused(f"view = 'render' needs an environment that draws text, and {id} draws "
                              f"{', '.join(modes) or 'nothing'}: write view='value'.")
            self._rendered = view == "render" or (view == "auto" and "ansi" in modes)
            self._check_observations(trial.observation_space)
            self._check_actions(trial.action_space, names)
        finally:
            trial.close()
        return {"actions": self.actions(trial.action_space)}

    def _made(self) -> gymnasium.Env:
        mode = {"render_mode": "ansi"} if self._rendered else {}
        try:
            return gymnasium.make(self._id, **mode, **self._options)
        except Exception as error:
            raise Refused(f"Gymnasium cannot make id = {self._id!r} with options = {self._options}: "
                          f"{type(error).__name__}: {error}. Name an environment that gymnasium.make makes; "
                          "one of another package as 'package:Name-v0'.") from error

    def _check_observations(self, space: spaces.Space) -> None:
        count = 0 if self._rendered else numbers_of(space)
        if count > MOST_NUMBERS:
            raise Refused(f"The observations of {self._id} are {count} numbers, {MOST_NUMBERS} are the most "
                          "that are shown as text: take an environment with texts, or wrap it.")

    def _check_actions(self, space: spaces.Space, names: Sequence[str]) -> None:
        if isinstance(space, spaces.Text):
            if names:
                raise Refused(f"The actions of {self._id} are texts, which have no names: leave actions out.")
        elif not isinstance(space, spaces.Discrete):
            raise Refused(f"The actions of {self._id} are {space}: only discrete ones and texts can be "
                          "taken. Wrap the environment, and register it under an id of its own.")
        elif names and len(names) != space.n:
            raise Refused(f"actions names {len(names)} actions, and {self._id} has {space.n}: name them all, "
                          f"from number {space.start} on.")

    def actions(self, space: spaces.Space) -> str:
        """What can be done, for the policy."""
        if isinstance(space, spaces.Text):
            return f"Actions: texts of {space.min_length} to {space.max_length} characters"
        if space.n > MOST_NAMED and not self._names:
            return f"Actions: the numbers from {space.start} to {space.start + space.n - 1}"
        names = self._names or map(str, range(int(space.start), int(space.start + space.n)))
        return f"Actions: {', '.join(names)}"

    def action(self, space: spaces.Space, command: str) -> Any:
        """The action that a command names; None: it is none."""
        if isinstance(space, spaces.Text):
            return command if space.contains(command) else None
        word = command.strip().lower()
        names = [name.lower() for name in self._names]
        if word in names:
            return int(space.start) + names.index(word)
        number = int(word) if re.fullmatch(r"-?[0-9]{1,18}", word) else None
        return number if number is not None and space.contains(number) else None

    def succeeded(self, score: float, reward: float, terminated: bool) -> bool:
        """Whether an episode that has ended counts as correct."""
        return terminated and reward > 0 if self._success is None else score >= self._success

    def open(self, number: int) -> "GymnasiumEpisode":
        return GymnasiumEpisode(self, self._made(), number, self._rendered)


class GymnasiumEpisode:
    """One environment, seeded by its row's number."""

    def __init__(self, package: Gymnasium, env: gymnasium.Env, number: int, rendered: bool):
        self._package = package
        self._env = env
        self._number = number
        self._rendered = rendered
        self._score = 0.0

    def _text(self, observation: Any) -> str:
        if not self._rendered:
            return as_text(self._env.observation_space, observation)
        drawn = self._env.render()
        return uncoloured(drawn if isinstance(drawn, str) else drawn.getvalue()).strip("\n")

    def reset(self) -> dict[str, Any]:
        observation, _ = self._env.reset(seed=self._number)
        self._env.action_space.seed(self._number)
        actions = self._package.actions(self._env.action_space)
        return {"observation": [f"{self._text(observation)}\n{actions}"]}

    def step(self, command: str) -> dict[str, Any]:
        action = self._package.action(self._env.action_space, command)
        if action is None:
            told = f"That is no action. Nothing was done.\n{self._package.actions(self._env.action_space)}"
            return {"observation": [told], "reward": 0.0, "done": False, "valid": False,
                    "info": {"score": self._score}}
        observation, reward, terminated, truncated, _ = self._env.step(action)
        self._score += float(reward)
        done = bool(terminated or truncated)
        correct = done and self._package.succeeded(self._score, float(reward), bool(terminated))
        return {"observation": [self._text(observation)], "reward": float(reward), "done": done,
                "truncated": bool(truncated and not terminated),
                "info": {"score": self._score, "correct": float(correct)}}

    def close(self) -> None:
        self._env.close()


if __name__ == "__main__":
    serve(Gymnasium())
