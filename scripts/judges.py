"""Keeps the queue that people judge from: who may judge, gold items, what was said and how far they agree.

    python scripts/judges.py --queue=sqlite:///judges.db --add_judge=ann
    python scripts/judges.py --queue=sqlite:///judges.db --add_gold=gold.jsonl
    python scripts/judges.py --queue=sqlite:///judges.db --progress
    python scripts/judges.py --queue=sqlite:///judges.db --agreement
    python scripts/judges.py --queue=sqlite:///judges.db --export=jsonl --out=answers.jsonl

People answer on the page of `python scripts/serve.py judge-page`. --add_judge prints a judge's personal token
once; only its hash is kept. A line of a file of gold items is {"work": {"task", "turns": [{"text"}],
"artifacts": [{"kind", "content"}]}, "rubric": {"id", "criteria": [{"id", "weight", "scale", "description"}]},
"scores": {"ID": SCORE}}. Needs the extra `judges`: pip install -e ".[judges]". See docs/judges.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

from jaxrl_moe import cli
from jaxrl_moe.options import define_number, define_path, define_switch, define_text, define_texts
from jaxrl_moe.types import UserError

QUEUE = define_text("queue", "", "the database, sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME")
ADD_JUDGE = define_text("add_judge", "", "a name: adds a judge and prints their token")
REMOVE_JUDGE = define_text("remove_judge", "", "a name: makes the token void; the answers stay")
ADD_GOLD = define_path("add_gold", None, "a JSONL file of works whose right scores are known, see above")
EXPORT = define_text("export", "", "jsonl | preferences | argilla | label-studio: writes what was said")
OUT = define_path("out", None, "the file of an export, or the new folder for Argilla")
ASK = define_text("ask", "", "of argilla and label-studio: what the id of the rubric and mode begins with, "
                             "where the queue has several")
MARGIN = define_number("margin", 0.0, "of preferences: by how much the better work must be better", 0, 1)
USERS = define_texts("argilla_user", "JUDGE=UUID: whose answers become responses of that account in Argilla")
AGREEMENT = define_switch("agreement", False, "prints how far judges agree, and how right they are on gold")
PROGRESS = define_switch("progress", False, "prints what waits, and for whom")


def main() -> None:
    cli.require(QUEUE)
    given = [holder for holder in (ADD_JUDGE, REMOVE_JUDGE, ADD_GOLD, EXPORT, AGREEMENT, PROGRESS)
             if holder.value]
    if len(given) != 1:
        raise UserError("Give one of --add_judge, --remove_judge, --add_gold, --export, --agreement and "
                        f"--progress; there {'is none' if not given else f'are {len(given)}'}. See --help.")
    _refuse_idle()
    from jaxrl_moe.judges.exports import commands  # after the flags: without the extra it says so
    from jaxrl_moe.judges.queue.sql import SqlQueue
    queue = SqlQueue(QUEUE.value)
    try:
        if EXPORT.value:
            commands.export_to(queue, EXPORT.value, OUT.value, ask=ASK.value, margin=MARGIN.value,
                               users=USERS.value)
        else:
            commands.COMMANDS[given[0].name](queue, given[0].value)
    finally:
        queue.close()


def _refuse_idle() -> None:
    """Raises UserError for an option that would have no effect."""
    for holder, forms in ((OUT, ("jsonl", "preferences", "argilla", "label-studio")),
                          (ASK, ("argilla", "label-studio")), (MARGIN, ("preferences",)),
                          (USERS, ("argilla",))):
        if holder.value and EXPORT.value not in forms:
            raise UserError(f"--{holder.name} has no effect without --export={' or '.join(forms)}: leave it "
                            "out.")
    if EXPORT.value:
        cli.require(OUT)


if __name__ == "__main__":
    cli.run(main, recipe=False)
