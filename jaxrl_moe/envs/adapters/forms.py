"""What a worker is sent of an answer, and how the policy is shown what it says."""
import abc
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.text.answers import BadAction, last_command
from jaxrl_moe.envs.text.functions import CommandForm, GameFunction
from jaxrl_moe.types import Action, Messages


class Form(abc.ABC):
    """Of one kind of episodes."""

    @abc.abstractmethod
    def said(self, action: Action) -> Mapping[str, Any]:
        """Arguments of the worker's `step`.

        Raises:
          BadAction: the answer is none; the message is for the policy that wrote it.
        """

    @abc.abstractmethod
    def shown(self, texts: Sequence[str], action: Action | None = None) -> Messages:
        """The messages in which the policy is shown the worker's texts, after an action or before the
        first."""


class Commands(Form):
    """One command an answer, in words or as a call.

    Args:
      function: by which it is called; None: it is given in words, after "Action:".
    """

    def __init__(self, function: GameFunction | None):
        self.form = CommandForm(last_command, () if function is None else (function,))

    def said(self, action: Action) -> Mapping[str, Any]:
        command = self.form.command(action)
        if not command:
            raise BadAction("There is no action in this answer. Nothing was done: answer again with one.")
        return {"command": command}

    def shown(self, texts: Sequence[str], action: Action | None = None) -> Messages:
        return self.form.observation("\n".join(texts), action)


class Words(Form):
    """An answer as it is written."""

    def said(self, action: Action) -> Mapping[str, Any]:
        return {"text": action.text}

    def shown(self, texts: Sequence[str], action: Action | None = None) -> Messages:
        return tuple({"role": "user", "content": text} for text in texts)
