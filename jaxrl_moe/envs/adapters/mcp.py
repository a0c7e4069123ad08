"""Tools of a server of MCP, which the policy calls in an episode."""
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

from jaxrl_moe.envs.adapters.forms import Form
from jaxrl_moe.envs.adapters.task import AdapterTask, plain_columns, server_of, worker_file
from jaxrl_moe.envs.answers import answer_part, final_number
from jaxrl_moe.envs.bounds import check_least
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import Action, Messages, UserError

MATCH = "match"


def matches(answer: str, gold: str | int | float) -> bool:
    """Whether an answer is the right one: the same words, but for case and spaces, or the same number as its
    final one."""
    if " ".join(answer.split()).casefold() == " ".join(str(gold).split()).casefold():
        return True
    try:
        number = Fraction(str(gold).strip().replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return False
    return final_number(answer) == number


class Calls(Form):
    """Calls of tools; an answer without any is the last one.

    Args:
      gold: what the last answer shall be; None: a grader knows.
    """

    def __init__(self, gold: str | int | float | None):
        self._gold = gold

    def said(self, action: Action) -> Mapping[str, Any]:
        answer = answer_part(action.text).strip()
        return {"calls": [call._asdict() for call in action.tool_calls], "malformed": list(action.malformed),
                "answer": answer, "matched": None if self._gold is None else matches(answer, self._gold)}

    def shown(self, texts: Sequence[str], action: Action | None = None) -> Messages:
        role = "tool" if action is not None and action.tool_calls else "user"
        return tuple({"role": role, "content": text} for text in texts)


@dataclasses.dataclass
class McpTask(AdapterTask):
    """The row's prompt is what a user asks; the policy calls the server's tools, each turn as many as it
    likes, and ends the episode with an answer that calls none, which is graded. Each episode has a session of
    its own, and with `command` a server of its own. At the last turn what there is is graded.

    Attributes:
      command: that starts a server which speaks over its pipes, such as "python server.py".
      url: of a server which speaks over HTTP, such as "http://127.0.0.1:8000/mcp"; instead of command.
      reward: "match": 1 where the last answer is that of the row's column `answer`; or the name of a tool of
        the server, which the policy does not see, and whose result is the reward. It is called with what its
        schema asks for: `answer`, and columns of the row.
      tools_offered: names of the tools that the policy may call, with commas between; empty: all.
      lowest, highest: of the reward of such a tool.
      longest: characters of a tool's result that the policy is shown.
      max_turns: turns after which an episode is cut.
      api_key_env: environment variable with a key that the server at the URL wants; empty: it wants none.
      workers, timeout, python, variables: see AdapterTask; the variables are the server's too.

    Raises:
      UserError: a setting is out of range, or there is not one of command and url.
    """
    command: str = ""
    url: str = ""
    reward: str = MATCH
    tools_offered: str = ""
    lowest: float = 0.0
    highest: float = 1.0
    longest: int = 4000
    max_turns: int = 10
    api_key_env: str = ""
    workers: int = 2
    timeout: float = 60.0
    python: str = ""
    variables: str = ""
    package: ClassVar[str] = "mcp"
    place: ClassVar[str] = "mcp"
    install: ClassVar[str] = "make env-adapters ADAPTERS=mcp"
    worker: ClassVar[pathlib.Path] = worker_file("mcp")

    def __post_init__(self) -> None:
        self._command, self.url = server_of("A server of MCP", self.command, self.url)
        if self.reward == MATCH and (self.lowest, self.highest) != (0.0, 1.0):
            raise UserError("lowest and highest are those of a grader's rewards, and reward = 'match' gives "
                            "0 or 1: leave them out.")
        check_least(self, longest=1)
        self._key = key_of_setting("api_key_env", self.api_key_env, "the server of MCP")
        self._tools: tuple[Mapping[str, Any], ...] | None = None
        self.bound_rewards(self.lowest, self.highest)
        super().__post_init__()

    def settings(self) -> Mapping[str, Any]:
        offered = [name.strip() for name in self.tools_offered.split(",") if name.strip()]
        return {"command": self._command, "url": self.url, "key": self._key, "variables": self.passed,
                "tools": offered, "grader": "" if self.reward == MATCH else self.reward,
                "lowest": self.lowest, "highest": self.highest, "turns": self.max_turns,
                "longest": self.longest, "seconds": self.timeout}

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        gold = row.get("answer")
        if self.reward == MATCH and (isinstance(gold, bool) or not isinstance(gold, str | int | float)):
            raise UserError(f"the row's `answer` is {quoted(gold)} (columns: {named(row)}): give the text or "
                            "number that is right, or name a tool that grades by reward = '...'.")
        return {"columns": {} if self.reward == MATCH else plain_columns(row)}

    def form(self, row: Mapping[str, Any]) -> Calls:
        return Calls(row["answer"] if self.reward == MATCH else None)

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Those of the server that the policy may call, without the one that grades."""
        if self._tools is None:
            self._tools = tuple(self.facts().values["tools"])
        return self._tools
