"""Who may judge: names, and hashes of their personal tokens."""
import hashlib
import hmac
import math
import secrets

from jaxrl_moe.judges.queue import tables
from jaxrl_moe.judges.queue.alchemy import sa
from jaxrl_moe.judges.queue.leasing import RETURNED
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.store import Store
from jaxrl_moe.spelling import quoted

LONGEST_NAME = 60   # characters
TOKEN_BYTES = 32    # of chance: a token cannot be guessed, so that one round of sha256 hides it

_judges = tables.judges


def add_judge(store: Store, connection: sa.Connection, name: str) -> str:
    """Adds a judge, or one who was removed; returns their personal token, which is not kept."""
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise QueueError(f"{quoted(name)} is no name of a judge: give at most {LONGEST_NAME} characters that "
                         "can be printed, without blanks around them.")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    values = {"hash": _hash(token), "created": store.clock(), "removed": None}
    there = connection.execute(sa.select(_judges).where(_judges.c.name == name)).one_or_none()
    if there is not None and there.removed is None:
        raise QueueError(f"There is a judge called {quoted(name)} already: remove them first, if their token "
                         "is lost.")
    connection.execute(store.insert(_judges).values(name=name, **values).on_conflict_do_update(
        index_elements=["name"], set_=values))
    return token


def remove_judge(store: Store, connection: sa.Connection, name: str) -> None:
    """Makes a judge's token void and returns what they hold; their answers stay."""
    gone = connection.execute(sa.update(_judges).where(
        _judges.c.name == name, _judges.c.removed.is_(None)).values(removed=store.clock(), hash=""))
    if gone.rowcount == 0:
        raise QueueError(f"There is no judge called {quoted(name)}.")
    connection.execute(sa.update(tables.leases).where(
        tables.leases.c.judge == name, tables.leases.c.ended == "").values(ended=RETURNED))


def login(connection: sa.Connection, token: str) -> str | None:
    """Whose token it is; all are compared, each in constant time."""
    given = _hash(token)
    found = None
    for row in connection.execute(sa.select(_judges).where(_judges.c.removed.is_(None))):
        if hmac.compare_digest(row.hash, given):
            found = row.name
    return found


def is_judge(connection: sa.Connection, name: str, since: float) -> bool:
    """Whether who logged in then may still judge. See Queue.is_judge."""
    return connection.scalar(sa.select(sa.func.count()).where(
        _judges.c.name == name, _judges.c.removed.is_(None), _judges.c.created <= since)) > 0


def check_judge(connection: sa.Connection, name: str) -> None:
    """Raises QueueError for nobody's name, and for a judge's who was removed."""
    if not is_judge(connection, name, math.inf):
        raise QueueError(f"There is no judge called {quoted(name)}.")


def names(connection: sa.Connection) -> list[str]:
    """The judges who may log in."""
    return list(connection.scalars(sa.select(_judges.c.name).where(_judges.c.removed.is_(None)).order_by(
        _judges.c.name)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
