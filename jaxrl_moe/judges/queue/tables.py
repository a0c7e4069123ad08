"""The queue's tables. JSON and texts of others are kept as ASCII JSON, so that no character of theirs meets a
database that has no such one."""
from jaxrl_moe.judges.queue.alchemy import sa

VERSION = 1  # of these tables; a database of another one is refused

metadata = sa.MetaData()


def _refers(name: str, column: str, **options: bool) -> sa.Column:
    return sa.Column(name, sa.ForeignKey(column), nullable=False, **options)


def _text(name: str, **options: bool) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _number(name: str, kind: type[sa.types.TypeEngine] = sa.Integer, **options: bool) -> sa.Column:
    return sa.Column(name, kind, nullable=False, **options)


schema = sa.Table("schema", metadata, _number("version"))

# Works by their digest, without their group.
works = sa.Table("works", metadata, _text("digest", primary_key=True), _text("body"))

# Rubrics and modes, by a hash.
asks = sa.Table("asks", metadata, _text("id", primary_key=True), _text("mode"), _text("body"))

# What runs wait for: a work under an ask. `cluster` names the works that it is compared with, empty under a
# rubric; `size` is how many they shall be, `copies` how many of them are equal to this one, itself included.
items = sa.Table(
    "items", metadata, _text("id", primary_key=True), _refers("ask", "asks.id"),
    _refers("work", "works.digest"), _text("run"), _text("cluster"), _number("size"), _number("copies"),
    _number("turns", sa.Boolean), _text("state"), _text("why"), _number("created", sa.Double))
sa.Index("items_by_cluster", items.c.cluster)
sa.Index("items_by_state", items.c.state)

# What judges are shown: one work, two, or a group's. `members` are digests in JSON; `needed` so many answers
# close it; `last` is the id of the last one that counts; `gold` has the right scores, where they are known.
questions = sa.Table(
    "questions", metadata, _text("id", primary_key=True), _refers("ask", "asks.id"), _text("members"),
    _number("needed"), _text("state"), _number("created", sa.Double), _number("doubt", sa.Double),
    sa.Column("last", sa.Integer), sa.Column("gold", sa.Text))
sa.Index("questions_by_state", questions.c.state, questions.c.created)

# Which questions an item's verdict needs: `turn` is -1 for the whole work, else that turn's index.
needs = sa.Table("needs", metadata, _refers("item", "items.id", primary_key=True),
                 _refers("question", "questions.id", primary_key=True), _number("turn", primary_key=True))
sa.Index("needs_by_question", needs.c.question)

judges = sa.Table("judges", metadata, _text("name", primary_key=True), _text("hash"),
                  _number("created", sa.Double), sa.Column("removed", sa.Double))

# `shown` are positions of a question's members in the order of this lease; `ended` is empty while it lasts.
leases = sa.Table(
    "leases", metadata, _text("token", primary_key=True), _refers("question", "questions.id"),
    _refers("judge", "judges.name"), _text("shown"), _number("taken", sa.Double),
    _number("until", sa.Double), _text("ended"))
sa.Index("leases_by_question", leases.c.question)
sa.Index("leases_by_judge", leases.c.judge)

# Rows are only ever added. `body` is in the order of the question's members.
answers = sa.Table(
    "answers", metadata, _number("id", primary_key=True, autoincrement=True),
    _refers("question", "questions.id"), _refers("judge", "judges.name"), _refers("lease", "leases.token"),
    _text("body"), _number("at", sa.Double), _number("seconds", sa.Double), _number("late", sa.Boolean),
    sa.UniqueConstraint("question", "judge"))
sa.Index("answers_by_judge", answers.c.judge)

# Verdicts on items by name: "people", "model", "blended". The first one stays.
verdicts = sa.Table("verdicts", metadata, _refers("item", "items.id", primary_key=True),
                    _text("name", primary_key=True), _text("body"), _number("at", sa.Double))
