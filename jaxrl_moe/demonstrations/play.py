"""An oracle plays an episode, and what was said in it."""
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.data.chat.links import linked_messages
from jaxrl_moe.demonstrations.oracles import Oracle
from jaxrl_moe.envs.text.answers import react
from jaxrl_moe.envs.text.functions import GameFunction, call_of
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Action, Step

NO_WAY_ON = "the oracle knew no way on"
FAILED = "the episode ended without success"


@dataclasses.dataclass(frozen=True)
class Played:
    """What came of a row; it goes to a file of work and back as JSON.

    Attributes:
      row: of the episode.
      rejected: why it is no example; empty: it is one.
      messages: the whole, from the instructions to the last answer; empty where it was rejected.
      tools: functions that were offered.
      reward: the sum of its turns.
    """
    row: Mapping[str, Any]
    rejected: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    reward: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dataclasses.asdict(self)


def play(task: Task, oracle: Oracle, row: Mapping[str, Any], seed: int, thoughts: bool = True) -> Played:
    """Plays a row's episode as a policy would: every command is an answer to the task's own environment.

    Args:
      task: that the oracle plays.
      row: that the task lets pass.
      seed: of the episode.
      thoughts: whether answers say why, too.

    Raises:
      EnvError: the environment failed, which says nothing about the episode.
    """
    tools = task.tools(row)
    offered = {tool["function"]["name"] for tool in tools}
    functions = tuple(each for each in oracle.functions if each.name in offered) if tools else ()
    messages: list[Mapping[str, Any]] = []
    if told := task.instructions(row):
        messages.append({"role": "system", "content": told})
    env = task.open(row, seed)
    try:
        messages += env.reset()
        reward = 0.0
        turns = 0
        for command, thought in oracle.commands(task, env, row):
            if turns == task.max_turns:
                return Played(row, f"not done in {turns} turns")
            message, action = answered(command, thought if thoughts else "", functions)
            step = env.step(action)
            turns += 1
            reward += step.reward
            messages.append(message)
            if step.done:
                return _ended(task, row, step, tuple(messages), tools, reward)
            messages += step.observation
        return Played(row, NO_WAY_ON)
    finally:
        env.close()


def answered(command: str, thought: str,
             functions: tuple[GameFunction, ...]) -> tuple[Mapping[str, Any], Action]:
    """The turn of a policy that gives a command: its message, and the action that its environment takes."""
    if not functions:
        text = react(command, thought) if thought else f"Action:\n{command}"
        return {"role": "assistant", "content": text}, Action(text, 0, False)
    call = call_of(command, functions)
    function = {"name": call.name, "arguments": json.loads(call.arguments)}
    message = {"role": "assistant", "content": thought,
               "tool_calls": [{"id": "call00000", "type": "function", "function": function}]}
    return message, Action(thought, 0, False, (call,))


def succeeded(task: Task, step: Step, reward: float) -> bool:
    """Whether an episode that ended with a step was a success: as the task says by "correct", else by the
    most that its rewards can sum to, else by any reward."""
    if "correct" in step.info:
        return step.info["correct"] == 1.0
    return reward >= task.score_range[1] if task.score_range else reward > 0


def _ended(task: Task, row: Mapping[str, Any], step: Step, messages: tuple[Mapping[str, Any], ...],
           tools: tuple[Mapping[str, Any], ...], reward: float) -> Played:
    if not succeeded(task, step, reward):
        return Played(row, FAILED)
    return Played(row, "", tuple(linked_messages(messages)), tools, reward)
