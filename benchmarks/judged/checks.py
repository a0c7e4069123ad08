"""What must hold at the end of a run that people judged: against the queue's own export."""
import collections
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.judged.person import opinion
from benchmarks.judged.programs import GROUP, PROMPTS, keep
from jaxrl_moe.judges.rubric import rubric_of

Record = Mapping[str, Any]


def problems(folder: pathlib.Path, steps: int) -> Iterator[str]:
    """Yields what is wrong at the end of a run, in words."""
    rows = [json.loads(line) for line in (folder / "run/trajectories.jsonl").read_text().splitlines()]
    questions = [record for record in exported(folder) if record["record"] == "question"]
    yield from faults(rows, questions, steps)


def faults(rows: Sequence[Record], questions: Sequence[Record], steps: int) -> Iterator[str]:
    """Yields what is wrong.

    Args:
      rows: of trajectories.jsonl.
      questions: of the export.
      steps: of the run.
    """
    counts = collections.Counter(len(question["answers"]) for question in questions)
    yield from (f"{number} items have {count} answers" for count, number in counts.items() if count != 1)
    trained = [row for row in rows if row["phase"] == "train"]
    if len(trained) != steps * PROMPTS * GROUP:
        yield f"{len(trained)} rollouts were trained, where {steps * PROMPTS * GROUP} were to be"
    keys = collections.Counter((row["step"], row["sequence"], row["sample"]) for row in trained)
    yield from (f"the rollout {key} stands {count} times" for key, count in keys.items() if count > 1)
    yield from _rewards(rows, questions)


def _rewards(rows: Sequence[Record], questions: Sequence[Record]) -> Iterator[str]:
    """Yields the rewards in the log that are not what somebody thinks of the work that was stored for them,
    and answered so."""
    by_id = {question["id"]: question for question in questions}
    for row in rows:
        (told,) = json.loads(row["notes"]["judge_answer"])
        question = by_id[told["question"]]
        rubric = rubric_of(question["rubric"], "the export")
        (work,) = question["works"]
        if not question["answers"]:
            continue  # told above
        scores = rubric.checked(opinion(rubric, work["turns"][-1]["text"]))
        if scores != rubric.checked(question["answers"][0]["scores"]):
            yield f"{question['answers']} is stored of a work of which {scores} was said"
        if not math.isclose(rubric.total(scores), row["reward"], rel_tol=1e-6):
            yield f"the reward {row['reward']} stands where {rubric.total(scores)} was answered"


def exported(folder: pathlib.Path) -> list[Record]:
    """All that the queue holds."""
    path = folder / "answers.jsonl"
    keep(folder, "--export=jsonl", f"--out={path}")
    return [json.loads(line) for line in path.read_text().splitlines()]
