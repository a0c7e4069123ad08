"""The rows that a demonstration is written as."""
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_moe import log_files
from jaxrl_moe.types import UserError

UNDERSTOOD = "Understood. I will answer in this form."  # to the instructions, of AgentTraj alone; untrained
Row = Mapping[str, Any]


def messages_row(name: str, played: Row) -> Row:
    """A row of `messages`, with `tools` if there are any, beside the columns of the episode's own row, its
    task's name and its reward."""
    tools = {"tools": played["tools"]} if played["tools"] else {}
    return {"messages": played["messages"], **tools, **played["row"], "env": name, "reward": played["reward"]}


def agenttraj_row(name: str, played: Row) -> Row:
    """An item of AgentTraj: the instructions are a human's, to which a gpt's answer without loss belongs;
    of all other answers the loss counts."""
    conversations = []
    for message in played["messages"]:
        if message["role"] == "system":
            conversations.append(_turn("human", None, message["content"]))
            conversations.append(_turn("gpt", False, UNDERSTOOD))
        elif message["role"] == "assistant":
            conversations.append(_turn("gpt", True, message["content"]))
        else:
            conversations.append(_turn("human", None, message["content"]))
    return {"item_id": f"{name}_{played['row']['id']}", "conversations": conversations}


def _turn(speaker: str, loss: bool | None, value: str) -> Row:
    return {"from": speaker, "loss": loss, "value": value}


FORMS: Mapping[str, Callable[[str, Row], Row]] = {"messages": messages_row, "agenttraj": agenttraj_row}


def check_out(out: pathlib.Path) -> None:
    """Raises UserError for a file that cannot be written anew."""
    if out.suffix not in (".jsonl", ".json"):
        raise UserError(f"--out = {str(out)!r} is of no known form: name it .jsonl (a row a line) or "
                        ".json (one list).")
    if out.exists():
        raise UserError(f"--out = {str(out)!r} is there already: give another name, or move it away.")
    if not out.parent.is_dir():
        raise UserError(f"--out = {str(out)!r} is in a folder that is not there: make it first.")


def write_rows(out: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes a data file, whole or not at all: .json as one list, .jsonl a row a line."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if out.suffix == ".json" else "".join(
        f"{line}\n" for line in lines)
    try:
        log_files.replace(out, text.encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}.") from error
