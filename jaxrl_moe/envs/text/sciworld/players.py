"""Episodes as two kinds of players play them, in messages: one who knows the game's own path, and a beginner
who goes to see the animals and focuses on any of them."""
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.text.sciworld.instructions import answer, instructions
from jaxrl_moe.envs.text.sciworld.oracle import gold_actions
from jaxrl_moe.envs.text.sciworld.task import SciWorld
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action

Messages = list[dict[str, str]]

# What a player thinks before a command that begins so; {rest}: what follows.
_THOUGHTS = (
    ("teleport to ", "What the task asks for is to be found in {rest}, so I go there at once."),
    ("go to ", "My way leads to {rest}."), ("open ", "{rest} is closed, and I need what is behind or in it."),
    ("close ", "{rest} has to be closed for what I do."), ("focus on ", "The task is about {rest}."),
    ("look at ", "I want to know more about {rest}."), ("look in ", "I want to know what is in {rest}."),
    ("look around", "I see what there is here."), ("pick up ", "I take {rest} along: I need it elsewhere."),
    ("put down ", "I do not need to carry {rest} any longer."), ("move ", "This belongs there: {rest}."),
    ("pour ", "This has to go there: {rest}."), ("dunk ", "This has to be filled: {rest}."),
    ("mix ", "All that it takes is in {rest}."), ("use ", "This tells me, or does, what I need: {rest}."),
    ("activate ", "{rest} has to be on."), ("deactivate ", "{rest} has done its work."),
    ("connect ", "The circuit needs this joint: {rest}."), ("disconnect ", "{rest} is no longer needed."),
    ("read ", "{rest} may tell what I need to know."), ("eat ", "I try {rest}."),
    ("wait", "What goes on here takes its time."), ("", "Of the things that are meant, it is this one."))
_ANIMAL = re.compile(r"^\tan? ([a-z ]+)$", re.M)  # a line of what is shown outside, where
_TOOLS = ("axe", "shovel")  # stand beside them
OUTSIDE = ("teleport to outside", "look around")


def thought(command: str) -> str:
    """What a player thinks who gives a command."""
    begin, words = next(row for row in _THOUGHTS if command.startswith(row[0]))
    said = words.format(rest=command.removeprefix(begin))
    return said[0].upper() + said[1:]


def opening(terse: bool, teleport: bool = False) -> Messages:
    """The system message that a row begins with."""
    return [{"role": "system", "content": instructions(terse, teleport)}]


def expert(task: SciWorld, row: Mapping[str, Any], terse: bool) -> Messages:
    """The game's own path; empty where it does not end at a score of 100 in the task's turns."""
    commands = gold_actions(task, row)[:task.max_turns]
    messages, score, _ = _played(task, row, commands, terse)
    return messages if score == 100 else []


def commands(task: SciWorld, env: Env, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (command, thought) of each turn of the game's own path, which is made before the first."""
    for command in gold_actions(task, row):
        yield command, thought(command)


class Meadow:
    """A variation whose animal stands outside, as it is played with teleportation: three commands, of which
    the last says which animal.

    Attributes:
      right: the animal that is asked for.
      animals: that are there.
    """

    def __init__(self, task: SciWorld, row: Mapping[str, Any]):
        self.right = ""
        focused = [command for command in gold_actions(task, row) if command.startswith("focus on ")]
        self._before, _, shown = _played(task, row, OUTSIDE, terse=True)
        self.animals = [name for name in _ANIMAL.findall(shown) if name not in _TOOLS]
        for name in self.animals:
            if focused and set(name.split()) == set(focused[-1].removeprefix("focus on ").split()):
                _, score, _ = _played(task, row, (*OUTSIDE, f"focus on {name}"), terse=True)
                self.right = name if score == 100 else ""

    def messages(self, player: random.Random | None) -> Messages:
        """An episode; the player chooses the animal, or None: it is the right one."""
        name = self.right if player is None else player.choice(self.animals)
        return [*self._before, _turn(f"focus on {name}", terse=True)]


def _played(task: SciWorld, row: Mapping[str, Any], commands: Sequence[str],
            terse: bool) -> tuple[Messages, int, str]:
    """(what was said, the score, what was shown last) of an episode with these commands; the last observation
    is among what was said where the episode went on."""
    episode = task.open(row, 0)
    teleport = any(command.startswith("teleport") for command in commands)
    messages = opening(terse, teleport and not terse) + [dict(message) for message in episode.reset()]
    shown = ""
    try:
        for command in commands:
            step = episode.step(Action(f"Action: {command}", 0, False))
            messages.append(_turn(command, terse))
            messages += [dict(message) for message in step.observation]
            shown = step.observation[0]["content"] if step.observation else ""
            if step.done:
                break
        return messages, episode.score, shown
    finally:
        episode.close()


def _turn(command: str, terse: bool) -> dict[str, str]:
    return {"role": "assistant", "content": answer(command, thought(command), terse)}
