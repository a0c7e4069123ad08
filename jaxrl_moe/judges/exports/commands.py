"""What scripts/judges.py does, one function a command."""
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from jaxrl_moe.judges.exports.export import export
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask, work_of
from jaxrl_moe.judges.rubric import rubric_of
from jaxrl_moe.outside import REQUIRED, Fields, OutsideError, parse
from jaxrl_moe.spelling import escaped, quoted
from jaxrl_moe.types import UserError


def add_judge(queue: SqlQueue, name: str) -> None:
    """Prints the new judge's token."""
    token = queue.add_judge(name)
    print(f"The personal token of {name}, which is shown this once: {token}")


def remove_judge(queue: SqlQueue, name: str) -> None:
    """Makes a judge's token void."""
    queue.remove_judge(name)
    print(f"{name} may judge no more; the answers stay.")


def add_gold(queue: SqlQueue, file: str) -> None:
    """Adds a file's gold items: all of them, or none where a line is damaged."""
    golds = [_gold(line, f"{file}, line {number}") for number, line in enumerate(_lines(file), 1)
             if line.strip()]
    for gold in golds:
        queue.add_gold(*gold)
    print(f"{len(golds)} gold items are in the queue.")


def agreement(queue: SqlQueue, _given: bool) -> None:
    """Prints kappas and gold accuracies."""
    found = queue.agreement()
    measured = queue.measured()
    print(f"Items that several judged: {found.items}")
    print(f"Fleiss' kappa over all judges: {_kappa(found.fleiss)}")
    for one, other, kappa in found.cohen:
        print(f"Cohen's kappa of {one} and {other}: {_kappa(kappa)}")
    for judge, (right, count) in sorted(found.gold.items()):
        print(f"Gold items that {judge} answered right: {right} of {count}")
    for judge, kappa in found.with_model.items():
        print(f"Cohen's kappa of {judge} and the model: {_kappa(kappa)}")
    print(f"The model agrees with people by {_kappa(measured.kappa)} on {measured.units} scores, and counts "
          f"like {measured.weight:.2f} judges.")


def progress(queue: SqlQueue, _given: bool) -> None:
    """Prints what waits, and for whom."""
    found = queue.progress("")
    print(f"Waiting: {found.waiting}, leased: {found.leased}, done: {found.done}")
    for run, count in found.runs.items():
        print(f"Items that {escaped(run) or 'a run without a name'} waits for: {count}")
    print(f"The oldest waits for {found.oldest_seconds:.0f} seconds.")
    for judge in queue.judges():
        print(f"Answers of {judge}: {queue.progress(judge).answered}")


def export_to(queue: SqlQueue, form: str, out: str, *, ask: str, margin: float, users: Sequence[str]) -> None:
    """Writes an export."""
    accounts = dict(_user(each) for each in users)
    unknown = sorted(set(accounts) - set(queue.judges()))
    if unknown:
        raise QueueError(f"There is no judge called {quoted(unknown[0])}.")
    count = export(queue, form, out, ask=ask, margin=margin, users=accounts)
    print(f"{count} records are in {out}.")


COMMANDS: dict[str, Callable[[SqlQueue, Any], None]] = {
    "add_judge": add_judge, "remove_judge": remove_judge, "add_gold": add_gold, "agreement": agreement,
    "progress": progress}


def _user(text: str) -> tuple[str, str]:
    judge, separator, account = text.rpartition("=")
    if not separator or not judge:
        raise QueueError(f"--argilla_user={quoted(text)} has no judge and account: write JUDGE=UUID.")
    return judge, account


def _lines(file: str) -> list[str]:
    try:
        return pathlib.Path(file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OutsideError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _gold(line: str, where: str) -> tuple[Any, Ask, dict[str, float]]:
    fields = Fields(parse(line, where), where)
    fields.only(("work", "rubric", "scores"))
    rubric = rubric_of(fields.object("rubric", REQUIRED).values, f"{where}: `rubric`")
    work = work_of(fields.object("work", REQUIRED).values, f"{where}: `work`")
    try:
        return work, Ask(rubric), rubric.checked(fields.object("scores", REQUIRED).values)
    except OutsideError:
        raise
    except UserError as error:
        raise OutsideError(f"{where}: {error}") from error


def _kappa(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"
