"""Makes a file of demonstrations: plays rows of a split, one after the other, until enough have succeeded."""
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.demonstrations import forms, workers
from jaxrl_moe.demonstrations.oracles import Rows, oracle_of
from jaxrl_moe.demonstrations.tally import Tally, reasons
from jaxrl_moe.demonstrations.work import Work
from jaxrl_moe.envs.registry import make_task, task_name
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import UserError

SPLITS = ("train", "test")
MOST_REJECTED = 200  # one after the other, after which the oracle is taken to be unable
_MEND = ("Allow more turns (max_turns), or take another environment.",
         "Give --count={}, for which nothing need be played again.")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be made.

    Attributes:
      env: the environment with its settings, as env.name has it.
      count: of episodes that succeed.
      seed: decides which episodes, and their order.
      split: "train" or "test", which share none.
      form: a row of forms.FORMS.
      thoughts: whether answers say why.
    """
    env: str
    count: int
    seed: int = 0
    split: str = "train"
    form: str = "messages"
    thoughts: bool = True

    def settings(self) -> dict[str, Any]:
        """What decides which episodes are played, and what is said in them."""
        return {"env": self.env, "seed": self.seed, "split": self.split, "thoughts": self.thoughts}


def make(wanted: Wanted, out: pathlib.Path, count_of_workers: int = 1) -> str:
    """Writes the file; where a start was killed before, it goes on with it. The same settings come to the
    same bytes, however often it was killed and by however many workers.

    Returns:
      What came of it, for people.

    Raises:
      UserError: there is no such environment or no oracle of it, the file is there already or cannot be
        written, or too few episodes succeed.
      EnvError: the environment failed.
    """
    forms.check_out(out)
    oracle = oracle_of(wanted.env)
    name = task_name(wanted.env)
    task = make_task(wanted.env)
    try:
        _check_form(wanted, task)
        task.ready()
        with Work.open(out, wanted.settings()) as work:
            _play_on(wanted, task, work, count_of_workers)
            form = forms.FORMS[wanted.form]
            forms.write_rows(out, [form.row(name, row) for row in _first(work.rows, wanted.count)])
            rejected = Tally(wanted.count, work.rows).rejected
            work.finish()
    finally:
        task.close()
    return f"Wrote {out}: {wanted.count} episodes of {name}, played by {oracle.how}; {reasons(rejected)}."


def make_prompts(wanted: Wanted, out: pathlib.Path) -> str:
    """Writes rows of RL, whose episodes are not played: of the same seed and split they are the same that
    make() tries, in its order.

    Raises:
      UserError: as make(), or there are fewer episodes.
    """
    forms.check_out(out)
    oracle = oracle_of(wanted.env)
    name = task_name(wanted.env)
    task = make_task(wanted.env)
    try:
        _check_form(wanted, task)
        rows = list(itertools.islice(oracle.episodes(task, wanted.seed, wanted.split), wanted.count))
        if len(rows) < wanted.count:
            raise UserError(f"{wanted.env} has {len(rows)} episodes of the split {wanted.split!r}, and "
                            f"{wanted.count} are asked for: give --count={len(rows)}.")
        form = forms.FORMS[wanted.form]
        forms.write_rows(out, [form.prompt(name, row, task.instructions(row)) for row in rows])
    finally:
        task.close()
    return f"Wrote {out}: {wanted.count} prompts of {name}."


def _check_form(wanted: Wanted, task: Task) -> None:
    if wanted.form == "agenttraj" and task.tools({}):
        raise UserError(f"--format=agenttraj has no calls of functions, and {wanted.env} answers by them: "
                        "take --format=messages, or leave answers='functions' out.")


def _play_on(wanted: Wanted, task: Task, work: Work, count_of_workers: int) -> None:
    """Plays until enough have succeeded."""
    tally = Tally(wanted.count, work.rows)
    if tally.enough:
        return
    rows = oracle_of(wanted.env).episodes(task, wanted.seed, wanted.split)
    rest = _written(wanted, itertools.islice(rows, len(work.rows), None))
    setup = workers.Setup(wanted.env, wanted.seed, wanted.thoughts)
    with tally.shown() as show, workers.players(setup, task, count_of_workers) as pool:
        for played in workers.in_order(pool, rest):
            work.add(played)
            tally.add(played)
            show()
            if tally.enough:
                return
            _check_able(wanted, tally)
    raise UserError(f"{wanted.env} has no more episodes of the split {wanted.split!r}: {tally.done} of "
                    f"{wanted.count} succeeded, {reasons(tally.rejected)}. "
                    f"{_MEND[tally.done > 0].format(tally.done)}")


def _written(wanted: Wanted, rows: Rows) -> Rows:
    """The rows; raises UserError for one that the form cannot name, before it is played."""
    for row in rows:
        forms.FORMS[wanted.form].prompt(task_name(wanted.env), row, "")
        yield row


def _check_able(wanted: Wanted, tally: Tally) -> None:
    if tally.in_a_row >= MOST_REJECTED:
        raise UserError(f"The last {MOST_REJECTED} episodes of {wanted.env} were all rejected, after "
                        f"{tally.done} that succeeded: {reasons(tally.rejected)}. Allow more turns "
                        "(max_turns), or leave hard levels out.")


def _first(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The first rows that succeeded, so many."""
    return list(itertools.islice((row for row in rows if not row["rejected"]), count))
