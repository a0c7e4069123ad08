"""The filter does what its tables say, on each kind of processor: an interpreter of our own reads it, and the
numbers are compared with the kernel's headers."""
import errno
import pathlib
import re
import struct

import pytest

from jaxrl_moe.sandbox.seccomp import filter_for
from jaxrl_moe.sandbox.syscalls import (
    ASKED_FOR,
    KERNEL,
    MACHINES,
    MOUNTS,
    NEWEST,
    OTHERS,
    OWN,
    ROOMS,
    UNCOUNTED,
    Machine,
)

HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
           "aarch64": "/usr/include/asm-generic/unistd.h"}
ALLOW = 0x7FFF0000
KILL = 0x80000000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
EVERYDAY = {"read": (0, 63), "write": (1, 64), "openat": (257, 56), "mmap": (9, 222), "futex": (202, 98),
            "execve": (59, 221), "exit_group": (231, 94), "prctl": (157, 167), "seccomp": (317, 277),
            "setresuid": (117, 147), "capset": (126, 91), "prlimit64": (302, 261), "kill": (62, 129),
            "pidfd_open": (434, 434), "close_range": (436, 436), "mbind": (237, 235), "rseq": (334, 293)}
THREAD = 0x3D0F00  # what a thread is cloned with
CASES = pytest.mark.parametrize("name", MACHINES)


def judged(program, arch, number, *arguments):
    """What the filter says of a call: an interpreter of the instructions of BPF that it may have."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *[*arguments, *[0] * 6][:6])
    steps = list(struct.iter_unpack("=HBBI", program))
    place = value = 0
    while True:
        code, if_true, if_false, operand = steps[place]
        place += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            place += if_true if holds else if_false


@CASES
def test_calls_are_refused_or_let_as_the_tables_say(name):
    machine = MACHINES[name]
    for nests in (False, True):
        program = filter_for(machine, nests)
        refused = machine.numbers(OTHERS, MOUNTS, KERNEL)
        rooms = machine.numbers(ROOMS, UNCOUNTED)
        let = machine.numbers(EVERYDAY) | (rooms if nests else {})
        for number in (refused | ({} if nests else rooms)).values():
            assert judged(program, machine.arch, number) == EPERM
        for number in let.values():
            assert judged(program, machine.arch, number) == ALLOW
        assert len(refused) > 50 and len(program) < 8 * 4096


@CASES
def test_arguments_decide_where_they_must(name):
    machine = MACHINES[name]
    strict, nested = (filter_for(machine, nests) for nests in (False, True))
    number = machine.numbers(ASKED_FOR)

    def said(program, call, *arguments):
        return judged(program, machine.arch, number[call], *arguments)
    for call in ("socket", "socketpair"):
        assert said(strict, call, 1) == said(nested, call, 1) == ALLOW
        for family in (0, 2, 10, 16, 17, 38, 40, 2**32 + 2):
            assert said(strict, call, family) == EPERM
            assert said(nested, call, family) == (ALLOW if family % 2**32 in (2, 10, 16) else EPERM)
    for flags in (THREAD, 17):
        assert said(strict, "clone", flags) == said(nested, "clone", flags) == ALLOW
    for flag in (0x20000, 2**25, 2**26, 2**27, 2**28, 2**29, 2**30):
        assert said(strict, "clone", flag | 17) == EPERM and said(nested, "clone", flag | 17) == ALLOW
    for program in (strict, nested):
        assert said(program, "clone3") == ENOSYS
        assert said(program, "personality", 0xFFFFFFFF) == ALLOW
        assert said(program, "personality", 0x40000) == EPERM
        assert said(program, "ioctl", 0, 0x5412) == said(program, "ioctl", 0, 2**32 + 0x541C) == EPERM
        assert said(program, "ioctl", 0x5412, 0xC020462A) == ALLOW  # such as drivers of GPUs take


@CASES
def test_other_processors_and_other_numbers_are_not_let(name):
    machine = MACHINES[name]
    other = next(each for each in MACHINES.values() if each is not machine)
    for program in (filter_for(machine, False), filter_for(machine, True)):
        for arch in (other.arch, 0x40000003, 0x40000028, 0):
            assert judged(program, arch, 0) == KILL
        assert judged(program, machine.arch, 0x40000000) == judged(program, machine.arch, 0xFFFFFFFF) == KILL
        assert judged(program, machine.arch, NEWEST + 1) == judged(program, machine.arch, 999) == ENOSYS
        assert judged(program, machine.arch, NEWEST) == ALLOW


@CASES
def test_numbers_are_the_kernels(name):
    if not pathlib.Path(HEADERS[name]).exists():
        pytest.skip("the kernel's headers are not installed")
    text = pathlib.Path(HEADERS[name]).read_text()
    known = {call: int(number) for call, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\n", text)}
    ours = Machine(0, MACHINES[name].column).numbers(OTHERS, MOUNTS, KERNEL, UNCOUNTED, ROOMS, ASKED_FOR, OWN,
                                                     EVERYDAY)
    newer = {call for call, number in ours.items() if number > max(known.values())}
    assert newer <= {"statmount", "listmount"}  # of Linux 6.8
    assert {call: known.get(call) for call in ours.keys() - newer} == {
        call: ours[call] for call in ours.keys() - newer}
