"""The rows that a demonstration is written as."""
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_moe import log_files
from jaxrl_moe.types import UserError

UNDERSTOOD = "Understood. I will answer in this form."  # to the instructions, of AgentTraj alone; untrained
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """How rows are written.

    Attributes:
      row: of an episode that was played, with the name of its environment.
      prompt: of one that is to be played, with the instructions: what a policy that learnt from such rows is
        given before the episode begins.
    """
    row: Callable[[str, Row], Row]
    prompt: Callable[[str, Row, str], Row]


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
    return {"item_id": _item(name, played["row"]), "conversations": conversations}


def messages_prompt(name: str, row: Row, instructions: str) -> Row:
    """A row of RL: the instructions as a system message, and the columns of the episode's row. It says
    nothing of its environment: a run over several has names of its own for them."""
    return {"prompt": [{"role": "system", "content": instructions}], **row}


def agenttraj_prompt(name: str, row: Row, instructions: str) -> Row:
    """A row of RL that begins as an item of AgentTraj does."""
    prompt = [{"role": "user", "content": instructions}, {"role": "assistant", "content": UNDERSTOOD}]
    return {"prompt": prompt, "item_id": _item(name, row)}


def _item(name: str, row: Row) -> str:
    """AgentGym's name of an episode; raises UserError for one that AgentGym does not number."""
    if "id" not in row:
        raise UserError(f"AgentGym has no number for the episode {dict(row)}, which an item of AgentTraj "
                        f"needs: take --format=messages, or leave such episodes of {name} out.")
    return f"{name}_{row['id']}"


def _turn(speaker: str, loss: bool | None, value: str) -> Row:
    return {"from": speaker, "loss": loss, "value": value}


FORMS: Mapping[str, Form] = {"messages": Form(messages_row, messages_prompt),
                             "agenttraj": Form(agenttraj_row, agenttraj_prompt)}


def check_out(out: pathlib.Path) -> None:
    """Raises UserError for a file that cannot be written anew."""
    if out.suffix not in (".jsonl", ".json", ".parquet"):
        raise UserError(f"--out = {str(out)!r} is of no known form: name it .jsonl (a row a line), "
                        ".json (one list) or .parquet.")
    if out.exists():
        raise UserError(f"--out = {str(out)!r} is there already: give another name, or move it away.")
    if not out.parent.is_dir():
        raise UserError(f"--out = {str(out)!r} is in a folder that is not there: make it first.")


def write_rows(out: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes a data file, whole or not at all: .json as one list, .jsonl a row a line, or .parquet."""
    data = _parquet(list(rows)) if out.suffix == ".parquet" else _text(out, rows).encode()
    try:
        log_files.replace(out, data)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}.") from error


def _text(out: pathlib.Path, rows: Iterable[Row]) -> str:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if out.suffix == ".json":
        return "[\n" + ",\n".join(lines) + "\n]\n"
    return "".join(f"{line}\n" for line in lines)


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet
    sink = pyarrow.BufferOutputStream()
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    except pyarrow.ArrowException as error:
        raise UserError(f"The rows do not fit into one table: {error}. Name the file .jsonl.") from error
    return sink.getvalue().to_pybytes()
