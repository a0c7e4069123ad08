"""An episode as the page shows it: a row of trajectories.jsonl with the texts of its tokens."""
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.outside import Fields, OutsideError, kind, parse
from jaxrl_moe.serving.viewer.texts import TokenTexts

_TOKENS = ("loss_mask", "logprobs", "policy_version")  # one number a token of the completion
# Not in every row: what the trainer's weights gave the tokens, and what each counted in the update.
_PERHAPS = ("trainer_logprobs", "advantages")


def episode(line: bytes, texts: TokenTexts) -> dict[str, Any]:
    """Everything of a row.

    Returns:
      The row's columns as they are, but `traces` in place of those that hold tokens, the earlier ones first,
      each {"prompt": tokens, "completion": tokens, "turns": [[start, end, reward]]}; tokens are {"ids",
      "texts"?, "special"?, and for a completion "loss_mask", "logprobs", "policy_version", "mismatch"?,
      "advantages"?}, all of the same length.

    Raises:
      OutsideError: the row is broken.
    """
    fields = Fields(parse(line, "The row", non_finite=True), "The row")
    traces = [Fields(branch, f"The row: branches[{number}]")
              for number, branch in enumerate(_list(fields, "branches"))]
    traces.append(fields)
    prompt = fields.string("prompt", "")
    spells = texts.fits(fields.integers("prompt_ids"), prompt)
    advantages = _advantages(fields.values.get("advantage"), traces)
    given = texts if spells else None
    shown = [_trace(trace, given, advantage) for trace, advantage in zip(traces, advantages)]
    numbers = {key: _plain(fields.values.get(key)) for key in ("reward", "used_reward", "advantage")}
    return numbers | {
        "traces": shown, "spelled": spells, "told": texts.told, "prompt": prompt,
        "completion": fields.string("completion", ""), "message": fields.string("message", ""),
        "messages": _messages(fields), "info": _info(fields), "notes": _notes(fields),
        "env": fields.string("env", ""), "truncated": fields.boolean("truncated", False)}


def _trace(trace: Fields, texts: TokenTexts | None, advantages: Sequence[float] | float | None) -> dict:
    ids = trace.integers("completion_ids")
    turns = _turns(trace, len(ids))
    completion = _tokens(ids, texts)
    given = {key: _numbers(trace, key, len(ids)) for key in (*_TOKENS, *_PERHAPS)}
    trainer = given.pop("trainer_logprobs")
    if trainer is not None and given["logprobs"] is not None:
        given["mismatch"] = [None if None in pair else abs(pair[0] - pair[1])
                             for pair in zip(trainer, given["logprobs"])]
    completion |= {key: _plain(values) for key, values in given.items() if values is not None}
    if "advantages" not in completion and advantages is not None:
        completion["advantages"] = _spread(advantages, completion.get("loss_mask"), turns, len(ids))
    return {"prompt": _tokens(trace.integers("prompt_ids"), texts), "completion": completion, "turns": turns}


def _tokens(ids: Sequence[int], texts: TokenTexts | None) -> dict[str, Any]:
    spelled = texts.spell(ids) if texts else None
    return {"ids": ids} | ({"texts": spelled.texts, "special": spelled.special} if spelled else {})


def _advantages(given: Any, traces: Sequence[Fields]) -> list[Sequence[float] | float | None]:
    """For each trace its one advantage, or those of its turns, as far as the row tells."""
    nothing = [None] * len(traces)
    if not isinstance(given, list):
        return nothing if given is None else [given] * len(traces)
    turns = [max(1, len(_list(trace, "turns"))) for trace in traces]
    if len(given) == len(traces):
        return given
    if len(given) != sum(turns):
        return nothing
    starts = [sum(turns[:number]) for number in range(len(turns))]
    return [given[start:start + count] for start, count in zip(starts, turns)]


def _spread(advantages: Any, mask: Sequence[int] | None, turns: Sequence[Sequence], length: int) -> list:
    """One number a token that was trained; null for the others."""
    spans = turns if isinstance(advantages, list) else [[0, length]]
    given = advantages if isinstance(advantages, list) else [advantages]
    values: list[Any] = [None] * length
    for (start, end, *_), advantage in zip(spans, given):
        for at in range(start, end):
            if mask is None or mask[at]:
                values[at] = _plain(advantage)
    return values


def _turns(trace: Fields, length: int) -> list[list]:
    turns = _list(trace, "turns")
    for number, turn in enumerate(turns):
        where = f"{trace.where}: turns[{number}]"
        if not (isinstance(turn, list) and len(turn) >= 3 and all(type(at) is int for at in turn[:2])
                and type(turn[2]) in (int, float) and 0 <= turn[0] <= turn[1] <= length):
            raise OutsideError(f"{where} is no [start, end, reward] within its {length} tokens.")
    return [[start, end, _plain(reward)] for start, end, reward, *_ in turns] or [[0, length, None]]


def _numbers(trace: Fields, key: str, length: int) -> list | None:
    """One number a token, if the trace has them; null in place of what is not finite."""
    if trace.values.get(key) is None:
        return None
    values = _list(trace, key)
    if len(values) != length:
        raise OutsideError(f"{trace.where}: {key} has {len(values)} values for {length} tokens.")
    for value in values:
        if type(value) not in (int, float):
            raise OutsideError(f"{trace.where}: {key} holds {kind(value)}; numbers are needed.")
    return [value if math.isfinite(value) else None for value in values]


def _messages(fields: Fields) -> list[list[dict[str, str]]] | None:
    """What the environment showed after each turn, as roles and texts."""
    if fields.values.get("messages") is None:
        return None
    return [[_message(message) for message in _items(shown, f"The row: messages[{turn}]")]
            for turn, shown in enumerate(_list(fields, "messages"))]


def _message(message: Any) -> dict[str, str]:
    fields = Fields(message, "The row: a message")
    content = fields.values.get("content")
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content)
    return {"role": fields.string("role", "?"), "content": text}


def _list(fields: Fields, key: str) -> list:
    return _items(fields.values.get(key) or [], f"{fields.where}: {key}")


def _items(value: Any, where: str) -> list:
    if not isinstance(value, list):
        raise OutsideError(f"{where} is {kind(value)}; a list is needed.")
    return value


def _info(fields: Fields) -> Mapping[str, Any]:
    info = fields.object("info", None)
    return {name: _plain(value) for name, value in info.values.items()} if info else {}


def _notes(fields: Fields) -> Mapping[str, str]:
    """Texts for people; empty for rows of runs that kept none."""
    notes = fields.object("notes", None)
    return {name: notes.string(name) for name in notes.values} if notes else {}


def _plain(value: Any) -> Any:
    """The value as strict JSON of no more digits than one reads."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value
