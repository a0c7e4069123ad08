"""An episode of BabyAI."""
from typing import Any

from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.text.answers import BadAction, action_of
from jaxrl_moe.envs.text.babyai.actions import Scene, moves_of
from jaxrl_moe.envs.text.babyai.description import available_line, describe
from jaxrl_moe.envs.text.babyai.levels import make_world
from jaxrl_moe.envs.text.babyai.view import ThingNames, look
from jaxrl_moe.envs.text.functions import CommandForm
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, Messages, Step

_IN_WORDS = CommandForm(action_of)


class BabyAIEpisode(Env):
    """One world, from its beginning to the end of its mission.

    Args:
      index: data index of the world.
      form: how actions are given.
      steps, binary: as settings of task.BabyAI.

    Attributes:
      index: as given.
      world: minigrid's own, from reset() on; what it hides from the agent is there to be seen.
      scene: what the agent sees now.
      score: the rewards so far.
      is_fulfilled: whether the mission is.
    """

    def __init__(self, index: int, form: CommandForm = _IN_WORDS, *, steps: int = 0, binary: bool = False):
        self.index = index
        self.world: Any = None
        self.scene: Scene
        self.score = 0.0
        self.is_fulfilled = False
        self._form = form
        self._life = Lifecycle()
        self._steps = steps
        self._binary = binary
        self._names = ThingNames()
        self._actions = 0
        self._taken = 0

    @property
    def mission(self) -> str:
        """What is to be done, in minigrid's words."""
        return self.world.mission

    def reset(self) -> Messages:
        """Makes the world; returns the goal and what is in sight.

        Raises:
          UserError: it has begun already.
        """
        self._life.begin()
        self.world = make_world(self.index)
        self.world.max_steps = self._steps or self.world.max_steps
        self._look()
        return self._form.observation(f"Your goal: {self.mission}\n{describe(self.scene)}")

    def step(self, action: Action) -> Step:
        """Takes an action. One that cannot be taken changes nothing in the world, and the observation says
        why."""
        self._life.check_running()
        self._actions += 1
        try:
            moves = moves_of(self._form.command(action), self.scene)
        except BadAction as error:
            return self._told(0.0, action, f"{error}\n{available_line(self.scene)}")
        self._taken += 1
        before = self.score
        for move in moves:
            self._move(move)
            if not self._life.running:  # also in the middle of an action
                break
        self._look()
        return self._told(self.score - before, action, describe(self.scene))

    def _look(self) -> None:
        view = look(self.world)
        self._names.learn(view)
        self.scene = Scene(view, self._names)

    def _move(self, move: int) -> None:
        _, reward, is_over, is_out_of_moves, _ = self.world.step(move)
        self.is_fulfilled = reward > 0
        self.score += float(self.is_fulfilled) if self._binary else float(reward)
        if is_over or is_out_of_moves:
            self._life.end()

    def _told(self, reward: float, action: Action, observation: str) -> Step:
        info = {"correct": float(self.is_fulfilled), "score": self.score,
                "valid": self._taken / self._actions, "moves": float(self.world.step_count)}
        done = not self._life.running
        return Step(reward, done, info, () if done else self._form.observation(observation, action))

    def close(self) -> None:
        """There is nothing to free."""
        self._life.end()
