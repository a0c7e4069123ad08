"""An episode of ScienceWorld."""
from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.functions import CommandForm
from jaxrl_moe.envs.text.sciworld.game import Game, Told
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, Messages, Step

LONGEST_COMMAND = 1000  # characters


class SciWorldEpisode(Env):
    """One variation of a task, from its beginning to its end.

    Args:
      game: that has not begun.
      form: how commands are given.

    Attributes:
      score: of 100, by now; -100: a wrong thing was focused on. Some begin above 0, which the first action
        is rewarded for: the rewards sum to the last score.
    """

    def __init__(self, game: Game, form: CommandForm):
        self.score = 0
        self._game = game
        self._form = form
        self._life = Lifecycle()
        self._turns = 0
        self._understood = 0
        self._rewarded = 0

    @property
    def task_description(self) -> str:
        """What is to be done, once it has begun."""
        return self._game.task_description

    def reset(self) -> Messages:
        """The task and what is around.

        Raises:
          UserError: it has begun already.
          EnvError: the Java process died or does not answer.
        """
        self._life.begin()
        told = self._game.begin()
        self.score = told.score
        return self._form.observation(f"{self.task_description}\n{told.observation}")

    def step(self, action: Action) -> Step:
        """Gives the command of an answer to the game. reward: what the score gained, of 1; a wrong focus
        loses what had been gained. info: "correct", "score", and "valid", the share of the turns up to
        now whose command was one."""
        self._life.check_running()
        told = self._told(action)
        self._turns += 1
        self._understood += told.understood
        gained = max(told.score, 0) - self._rewarded
        self._rewarded += gained
        self.score = told.score
        if told.over:
            self._life.end()
            self._game.end()
        info = {"correct": float(told.score == 100), "score": float(told.score),
                "valid": self._understood / self._turns}
        shown = () if told.over else self._form.observation(told.observation, action)
        return Step(gained / 100, told.over, info, shown)

    def _told(self, action: Action) -> Told:
        try:
            command = " ".join(self._form.command(action).split())
            if len(command) <= LONGEST_COMMAND:
                return self._game.do(command)
            said = f"That is a command of {len(command)} characters: write one of at most {LONGEST_COMMAND}."
        except BadAction as error:
            said = str(error)
        return Told(said, self.score, False, understood=False)

    def close(self) -> None:
        """Leaves the Java process to others."""
        self._life.end()
        self._game.end()
