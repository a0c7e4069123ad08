"""Which of the ways works on this machine: it is tried."""
import functools
import sys

from jaxrl_moe.sandbox.life import SandboxError
from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.shut_in import run
from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.spelling import cut
from jaxrl_moe.types import UserError

_MEND = ("Install Debian's packages `bubblewrap` and `util-linux`, and run as a user who may make namespaces "
         "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or as root with "
         "the capability SYS_ADMIN (docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined "
         "--security-opt apparmor=unconfined)")


@functools.cache
def working_way() -> Way:
    """The first way that works.

    Raises:
      UserError: none does.
    """
    refused = {}
    for way in Way:
        refused[way] = why_not(way)
        if not refused[way]:
            return way
    told = "; ".join(f"{way.value}: {why}" for way, why in refused.items())
    raise UserError(f"Programs cannot be shut in on this machine ({told}). {_MEND}.")


@functools.cache
def why_not(way: Way) -> str:
    """Why a way does not work; empty where it does."""
    cell = Cell(python())
    try:
        ended = run([sys.executable, "-I", "-S", "-c", ""], cell, Bounds(memory_mib=256), way)
    except (SandboxError, UserError, OSError) as error:
        return cut(str(error))
    said = ended.stderr.decode(errors="replace").strip()
    return cut(said) or f"it exits with {ended.code}" if ended.code else ""
