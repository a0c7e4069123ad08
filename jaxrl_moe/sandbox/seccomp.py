"""The filter through which all calls of a program go to the kernel: bytes of BPF, seccomp(2)."""
import errno
import struct
from collections.abc import Sequence

from jaxrl_moe.sandbox.syscalls import ASKED_FOR, KERNEL, MOUNTS, NEWEST, OTHERS, ROOMS, UNCOUNTED, Machine

# Where the data of a call has what (struct seccomp_data); of arguments the lower halves, which is all that
# the kernel looks at of those that are looked at here.
_NUMBER = 0
_ARCH = 4
_ARGUMENT = (16, 24)
# Instructions: load a word; jump where it equals, where it is as large, where they share bits; return.
_LOAD = 0x20
_EQUAL = 0x15
_AS_LARGE = 0x35
_SHARE = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000  # the whole process
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_X32 = 0x40000000  # calls of another kind on x86_64, with numbers of their own
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*: mount, cgroup, uts, ipc, user, pid, net
_FAMILIES = (1,)  # AF_UNIX
_EMPTY_NETWORK = (*_FAMILIES, 2, 10, 16)  # with AF_INET, AF_INET6, AF_NETLINK
_FORGED_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: words into the terminal of whoever started us
_ASK_PERSONALITY = 0xFFFFFFFF


def filter_for(machine: Machine, nests: bool) -> bytes:
    """The filter's instructions.

    Args:
      nests: whether the program may shut in parts of itself; see Cell.
    """
    denied = machine.numbers(OTHERS, MOUNTS, KERNEL, *(() if nests else (UNCOUNTED, ROOMS)))
    number = machine.numbers(ASKED_FOR)
    steps = [*_begun(machine)]
    for each in denied.values():
        steps += [_step(_EQUAL, each, 0, 1), _step(_RETURN, _REFUSE)]
    # Its flags cannot be seen from here; libraries then use clone.
    steps += [_step(_EQUAL, number["clone3"], 0, 1), _step(_RETURN, _UNKNOWN)]
    if not nests:
        steps += _where(number["clone"], 0, [_step(_SHARE, _NEW_NAMESPACES, 0, 1), _step(_RETURN, _REFUSE)])
    for name in ("socket", "socketpair"):
        steps += _where(number[name], 0, _only(_EMPTY_NETWORK if nests else _FAMILIES))
    steps += _where(number["personality"], 0, _only((_ASK_PERSONALITY,)))
    for each in _FORGED_INPUT:
        steps += _where(number["ioctl"], 1, [_step(_EQUAL, each, 0, 1), _step(_RETURN, _REFUSE)])
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _begun(machine: Machine) -> list[bytes]:
    """The number of the call is loaded, and is one of this machine's that is known."""
    return [_step(_LOAD, _ARCH), _step(_EQUAL, machine.arch, 1, 0), _step(_RETURN, _KILL),
            _step(_LOAD, _NUMBER), _step(_AS_LARGE, _X32, 0, 1), _step(_RETURN, _KILL),
            _step(_AS_LARGE, NEWEST + 1, 0, 1), _step(_RETURN, _UNKNOWN)]


def _where(number: int, argument: int, steps: Sequence[bytes]) -> list[bytes]:
    """Steps for one call, over an argument of it; the call's number is loaded again after them."""
    inside = [_step(_LOAD, _ARGUMENT[argument]), *steps, _step(_LOAD, _NUMBER)]
    return [_step(_EQUAL, number, 0, len(inside)), *inside]


def _only(values: Sequence[int]) -> list[bytes]:
    """Refuses all values but these."""
    jumps = [_step(_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [*jumps, _step(_RETURN, _REFUSE)]


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
