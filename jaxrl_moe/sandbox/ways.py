"""The ways in which programs can be shut in."""
import enum
import sys

from jaxrl_moe.sandbox import bubblewrap, namespaces
from jaxrl_moe.sandbox.syscalls import MACHINES, Machine, this_machine
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError


class Way(enum.Enum):
    """What many use and have looked at comes before what we make ourselves."""
    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"

    @property
    def started_by(self):
        """See bubblewrap.started_by."""
        return {Way.BUBBLEWRAP: bubblewrap, Way.NAMESPACES: namespaces}[self].started_by


def machine() -> Machine:
    """What the filter is written for.

    Raises:
      UserError: it knows no such processor, or this is no Linux.
    """
    known = this_machine() if sys.platform == "linux" else None
    if known is None:
        raise UserError(f"Programs are shut in on Linux on {named(MACHINES)}, which this machine is not.")
    return known
