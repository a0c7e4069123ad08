"""Tasks of verifiers' tasksets (v1), answered once in words."""
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.adapters.forms import Words
from jaxrl_moe.envs.adapters.task import AdapterTask, json_setting, worker_file
from jaxrl_moe.envs.answers import answer_part
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.types import Action, UserError


class Unthought(Words):
    """An answer without what was thought before </think>."""

    def said(self, action: Action) -> Mapping[str, Any]:
        return {"text": answer_part(action.text).strip()}


@dataclasses.dataclass
class VerifiersTask(AdapterTask):
    """One task of a taskset an episode: its system prompt and prompt are shown after the row's own, and it is
    answered once. A row has the task's position in the taskset in `id`. The reward is the weighted sum of the
    task's rewards; each of them, and each metric, is a number of info. Tasks that need tools, a container or
    a simulated user are refused: verifiers itself can play these as an agent (docs/agents/sessions.md).

    Attributes:
      taskset: as verifiers finds it: a package that exports a Taskset.
      options: of its configuration, a JSON object.
      success: reward from which on an answer counts as correct.
      lowest, highest: of the reward; None: not known.
      deterministic: whether the same answer is always scored alike, as by rules and not by a judge.
      workers, timeout, python, variables: see AdapterTask.

    Raises:
      UserError: a setting is out of range, or cannot be read.
    """
    taskset: str
    options: str = ""
    success: float = 1.0
    lowest: float | None = None
    highest: float | None = None
    deterministic: bool = False
    workers: int = 2
    timeout: float = 60.0
    python: str = ""
    variables: str = ""
    max_turns: ClassVar[int] = 2  # more than 1, since the episode shows the task; the first answer ends it
    package: ClassVar[str] = "verifiers"
    place: ClassVar[str] = "verifiers"
    install: ClassVar[str] = "make env-adapters ADAPTERS=verifiers"
    worker: ClassVar[pathlib.Path] = worker_file("verifiers")

    def __post_init__(self) -> None:
        self._options = json_setting("options", self.options)
        if "id" in self._options:
            raise UserError("options has an id, which is the setting taskset: leave it out.")
        self.bound_rewards(self.lowest, self.highest)
        super().__post_init__()

    def settings(self) -> Mapping[str, Any]:
        return {"taskset": self.taskset, "options": self._options, "success": self.success,
                "seconds": self.timeout}

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"number": episode_number(row, "verifiers")}

    def form(self, row: Mapping[str, Any]) -> Unthought:
        return Unthought()
