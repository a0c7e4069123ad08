"""A program of its own, which shuts in another; namespaces.py starts it. It reads what is asked from a
descriptor, as JSON, and imports nothing of the library.

Three processes: this one waits outside and exits as the program does; its child is the first process of the
sandbox, makes the mounts and waits for all that lose their parents; the child's child becomes the program.
Each dies with its parent.
"""
import base64
import ctypes
import json
import os
import resource
import select
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
# Flags of unshare(2), mount(2), mount_setattr(2), umount2(2), prctl(2) and capset(2).
NAMESPACES = 0x6E020000  # mount, cgroup, uts, ipc, pid, net
USER_NAMESPACE = 0x10000000
PRIVATE = 1 << 18
BIND = 1 << 12
AND_BELOW = 1 << 14
BARE = 2 | 4  # no setuid, no devices
NO_PROGRAMS = 8
READ_ONLY = 1
FROM_HERE = -100
ALL_BELOW = 0x8000
DETACHED = 2
DEATH_SIGNAL = 1
DROP_BOUNDING = 24
SECCOMP = 22
FILTER = 2
NO_NEW_PRIVILEGES = 38
CAPABILITIES = 0x20080522

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}  # to /proc/self/fd
MACHINES_OWN = ("sys", "sysrq-trigger", "irq", "bus")  # of /proc


def main() -> int:
    with os.fdopen(int(sys.argv[1])) as file:
        asked = json.load(file)
    os.set_inheritable(asked["status"], False)
    call("prctl", DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != asked["parent"]:
        return 1
    write("/proc/self/oom_score_adj", "1000")  # where memory ends the kernel kills it first
    enter(asked["uid"])
    alive, held = os.pipe()  # whose other end closes with this process
    failed, failing = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        os._exit(done(failing, within, asked, alive, failing))
    os.close(failing)
    tell(asked["status"], {"child-pid": first})
    code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    if not os.read(failed, 1):
        tell(asked["status"], {"exit-code": code if code >= 0 else 128 - code})
    return 0


def within(asked: dict, alive: int, failing: int) -> int:
    """The first process of the sandbox: the exit code of the program."""
    call("prctl", DEATH_SIGNAL, signal.SIGKILL)
    if select.select([alive], [], [], 0)[0]:  # too late for the signal
        return 1
    os.setsid()
    call("sethostname", b"sandbox", 7)
    mount_all(asked)
    program = os.fork()
    if program == 0:
        os._exit(done(failing, become, asked))
    give_up(None, asked)
    os.closerange(0, 1 << 16)  # whoever reads what the program writes shall see it end
    while True:
        ended, status = os.wait()
        if ended == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def become(asked: dict) -> int:
    """This process turns into the program; where there is none, what shells then exit with."""
    os.chdir("/tmp")
    for name, value in asked["held"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
    for each in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(each, signal.SIG_DFL)
    give_up(asked["uid"], asked)
    try:
        os.execvpe(asked["command"][0], asked["command"], asked["environment"])
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    return 127


def done(failing: int, action, *arguments) -> int:
    """What an action returns, or 1 and a word to whoever waits where it fails."""
    try:
        return action(*arguments)
    except BaseException as error:
        os.write(failing, b"x")
        os.write(2, f"sandbox: {error}\n".encode())
        return 1


def enter(uid: int | None) -> None:
    """New namespaces for this process and its children; a user's own one where it is not root's."""
    if uid is not None:
        call("unshare", NAMESPACES)
        return
    user = os.getuid()
    group = os.getgid()
    call("unshare", NAMESPACES | USER_NAMESPACE)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")


def mount_all(asked: dict) -> None:
    """Makes / anew. Meanwhile the machine's is at /old, and what becomes / is at /new."""
    mount("none", "/", None, PRIVATE | AND_BELOW)
    mount("tmpfs", "/tmp", "tmpfs", BARE, "mode=755")
    os.makedirs("/tmp/old")
    os.makedirs("/tmp/new")
    system(asked, "pivot_root", b"/tmp", b"/tmp/old")
    os.chdir("/")
    os.umask(0o022)
    small = "mode=755,size=4m,nr_inodes=8192"  # for the folders that lead to what is shown
    mount("tmpfs", "/new", "tmpfs", BARE, small)
    made("/new/proc", "proc", BARE | NO_PROGRAMS)
    made("/new/dev", "tmpfs", BARE | NO_PROGRAMS, small)
    for folder in ("/new/dev/shm", "/new/tmp"):
        made(folder, "tmpfs", BARE, f"mode=1777,{asked['disk']}")
    for source, path in asked["readable"]:
        show(asked, source, path, READ_ONLY | BARE)
    for source, path in [*((f"/dev/{name}", f"/dev/{name}") for name in DEVICES), *asked["devices"]]:
        show(asked, source, path, READ_ONLY | 2 | NO_PROGRAMS)
    for name, target in LINKS.items():
        os.symlink(f"/proc/self/fd{target}", f"/new/dev/{name}")
    for name in MACHINES_OWN:
        if os.path.exists(f"/new/proc/{name}"):
            mount(f"/new/proc/{name}", f"/new/proc/{name}", None, BIND)
            seal(asked, f"/new/proc/{name}", READ_ONLY)
    for path in ("/new", "/new/dev") if asked["nests"] else ("/new", "/new/dev", "/new/proc"):
        seal(asked, path, READ_ONLY)
    os.chdir("/new")
    system(asked, "pivot_root", b".", b".")
    call("umount2", b".", DETACHED)
    os.chdir("/")


def made(path: str, kind: str, flags: int, data: str = "") -> None:
    os.mkdir(path)
    mount(kind, path, kind, flags, data)


def show(asked: dict, source: str, path: str, attributes: int) -> None:
    """Mounts what the machine has at `source`, and all that is mounted below."""
    target = f"/new{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(f"/old{source}"):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        write(target, "")
    mount(f"/old{source}", target, None, BIND | AND_BELOW)
    seal(asked, target, attributes, ALL_BELOW)


def seal(asked: dict, path: str, attributes: int, below: int = 0) -> None:
    """Sets attributes of what is mounted there, beside those that it has."""
    told = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    system(asked, "mount_setattr", FROM_HERE, path.encode(), below, told, ctypes.c_size_t(32))


def give_up(uid: int | None, asked: dict) -> None:
    """All privileges, and calls of the kernel that the filter refuses."""
    for capability in range(64):
        if LIBC.prctl(DROP_BOUNDING, capability, 0, 0, 0):
            break  # this kernel has no more
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    head = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    system(asked, "capset", head, (ctypes.c_uint32 * 6)())
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    rules = base64.b64decode(asked["filter"])
    buffer = ctypes.create_string_buffer(rules, len(rules))

    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("rules", ctypes.c_void_p)]
    program = Program(len(rules) // 8, ctypes.addressof(buffer))
    call("prctl", SECCOMP, FILTER, ctypes.byref(program), 0, 0)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = [each.encode() if each is not None else None for each in (source, target, kind)]
    call("mount", *encoded, ctypes.c_ulong(flags), data.encode() or None, about=target)


def system(asked: dict, name: str, *arguments) -> None:
    call("syscall", ctypes.c_long(asked["numbers"][name]), *arguments, about=name)


def call(name: str, *arguments, about: str = "") -> None:
    """A function of the C library's.

    Raises:
      OSError: it failed.
    """
    if getattr(LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{name} {about}".strip())


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def tell(status: int, said: dict) -> None:
    os.write(status, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
