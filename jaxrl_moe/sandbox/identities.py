"""User ids that belong to nobody, lent to one sandbox each: the kernel counts processes by user."""
import contextlib
import errno
import functools
import grp
import os
import pwd
import socket
from collections.abc import Iterator

from jaxrl_moe.types import UserError

_RANGE = range(61_000, 61_184)  # that neither Debian nor systemd gives to anybody


@contextlib.contextmanager
def lent_uid() -> Iterator[int | None]:
    """A user and group id for what root starts, which no other sandbox of this machine has meanwhile; None
    for other users, whose sandboxes hold what is theirs.

    Raises:
      UserError: all are lent or belong to somebody.
    """
    if os.geteuid() != 0:
        yield None
        return
    for uid in _RANGE:
        if uid not in _owned() and (held := _held(uid)):
            with held:
                yield uid
            return
    raise UserError(f"All user ids from {_RANGE.start} to {_RANGE.stop - 1} are lent to sandboxes "
                    "or belong to somebody: run fewer at a time, or as a user without privileges.")


@functools.cache
def _owned() -> frozenset[int]:
    accounts = {account.pw_uid for account in pwd.getpwall()}
    return frozenset(accounts | {group.gr_gid for group in grp.getgrall()})


def _held(uid: int) -> socket.socket | None:
    """A socket by whose name others see that an id is lent; it goes with this process, however that ends."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0jaxrl_moe-sandbox-{uid}")
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return holder
