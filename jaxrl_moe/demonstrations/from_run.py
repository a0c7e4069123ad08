"""A run's own good episodes as data to learn from: what stands in its trajectories.jsonl."""
import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxrl_moe import log_files
from jaxrl_moe.demonstrations import forms
from jaxrl_moe.demonstrations.drawn import Drawn, Unlike
from jaxrl_moe.demonstrations.tally import reasons
from jaxrl_moe.runs.checkpoints.resuming import read_settings
from jaxrl_moe.runs.logs import SETTINGS, TRAJECTORIES
from jaxrl_moe.types import UserError

_TRAINED_ON = ("train", "dropped")  # phases; those of an evaluation are held out
_FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which episodes of a run are taken.

    Attributes:
      run: its folder.
      min_reward: that an episode must have come to.
      max_per_prompt: of those of one prompt, the best ones, of equal ones the newest; 0: all.
      newest: of those of one prompt the newest, in place of the best.
    """
    run: pathlib.Path
    min_reward: float = 0.5
    max_per_prompt: int = 0
    newest: bool = False


class Good(NamedTuple):
    """An episode that may be taken."""
    offset: int  # of its line, bytes
    prompt: int
    reward: float


def collect(choice: Choice, out: pathlib.Path) -> str:
    """Writes rows of `messages`, in the order of the run: one for each token sequence of an episode.

    Returns:
      What came of it, for people.

    Raises:
      UserError: there is no such run, it has kept no episodes or none that is good enough, or the file is
        there already or cannot be written.
    """
    forms.check_out(out)
    path = choice.run / TRAJECTORIES
    if not path.is_file():
        raise UserError(f"--from_run = {str(choice.run)!r} has no {TRAJECTORIES}: give the folder of a run "
                        "whose logging.trajectories is on.")
    settings = read_settings(choice.run / SETTINGS)
    left_out: Counter[str] = Counter()
    chosen = _chosen(_good(path, choice, left_out), choice, left_out)
    drawn = Drawn.of(settings)
    rows = list(_rows(path, chosen, drawn, settings, left_out))
    if not rows:
        raise UserError(f"No episode of {path} was taken with --min_reward={choice.min_reward:g}; "
                        f"{reasons(left_out)}. {drawn.said()}".rstrip())
    forms.write_rows(out, rows)
    return (f"Wrote {out}: {len(rows)} rows of {len(chosen)} episodes of {choice.run}; {reasons(left_out)}. "
            f"{drawn.said()}")


def _good(path: pathlib.Path, choice: Choice, left_out: Counter[str]) -> list[Good]:
    """The episodes of the phases that train, each conversation once."""
    good = {}
    offset = 0
    for number, (line, row) in enumerate(log_files.read_lines(path), 1):
        try:
            why = _why_not(row, choice)
            mark = b"" if why else _mark(row)
            episode = None if why else Good(offset, row["prompt_index"], row["reward"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number} holds no episode ({error!r}): remove that "
                            "line.") from error
        if why:
            left_out[why] += 1
        elif good.setdefault(mark, episode) is not episode:
            left_out["said word for word before"] += 1
        offset += len(line)
    return list(good.values())


def _why_not(row: Mapping[str, Any], choice: Choice) -> str:
    """Why an episode is not taken; empty: it may be."""
    if row.get("phase") == _FAILED or row.get("phase") in _TRAINED_ON and row.get("reward") is None:
        return "of failed environments"
    if row.get("phase") not in _TRAINED_ON:
        return "of evaluations"
    if row["reward"] < choice.min_reward:
        return f"under a reward of {choice.min_reward:g}"
    if not all(each.get("dialogue") for each in sequences(row)):
        return "without messages, as of runs of earlier versions"
    return ""


def sequences(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The token sequences of an episode, in order."""
    return [*row.get("branches", ()), row]


def _mark(row: Mapping[str, Any]) -> bytes:
    """The same for episodes that say the same."""
    said = [each["dialogue"] for each in sequences(row)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


def _chosen(good: list[Good], choice: Choice, left_out: Counter[str]) -> list[Good]:
    """Those that max_per_prompt leaves, in the order of the file."""
    if not choice.max_per_prompt:
        return good
    kept = []
    by_prompt = sorted(good, key=lambda each: each.prompt)
    for _, group in itertools.groupby(by_prompt, key=lambda each: each.prompt):
        ranked = sorted(group, reverse=True, key=lambda each: (
            each.offset if choice.newest else (each.reward, each.offset)))
        kept += ranked[:choice.max_per_prompt]
        left_out["beyond --max_per_prompt"] += len(ranked[choice.max_per_prompt:])
    left_out += Counter()  # without what is 0
    return sorted(kept, key=lambda each: each.offset)


def _rows(path: pathlib.Path, chosen: list[Good], drawn: Drawn, settings: Mapping[str, Any],
          left_out: Counter[str]) -> Iterator[forms.Row]:
    name = settings.get("env", {}).get("name", "")
    with path.open("rb") as file:
        for each in chosen:
            file.seek(each.offset)
            row = json.loads(file.readline())
            for sequence in sequences(row):
                try:
                    messages = drawn.trained(sequence, row)
                except Unlike as error:
                    left_out[str(error)] += 1
                    continue
                yield _row(messages, sequence["dialogue"], row, name)


def _row(messages: list[Mapping[str, Any]], dialogue: Mapping[str, Any], row: Mapping[str, Any],
         name: str) -> forms.Row:
    tools = {"tools": dialogue["tools"]} if dialogue["tools"] else {}
    variables = {"chat_template_kwargs": dialogue["variables"]} if dialogue["variables"] else {}
    return {"messages": messages, **tools, **variables, "env": name, "prompt_index": row["prompt_index"],
            "step": row["step"], "reward": row["reward"]}
