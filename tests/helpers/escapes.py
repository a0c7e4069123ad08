"""Ways out of a sandbox, as a program that tries them: each says what it has got, or nothing. Outside they
work for root, so that a test which sees one fail sees what keeps it.

python escapes.py FACTS, in JSON, prints {name: what was got, empty if nothing}. It imports nothing of ours.
"""
import ctypes
import glob
import json
import mmap
import os
import platform
import pwd
import resource
import signal
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
REFUSED = (1, 38)  # EPERM, ENOSYS
NEW_USER = 0x10000000


def refused(result):
    """Nothing where a call was refused as such; else what came of it."""
    if result != -1:
        return f"returned {result}"
    number = ctypes.get_errno()
    return "" if number in REFUSED else f"reached the kernel: {os.strerror(number)}"


def raw(facts, name, *arguments):
    return refused(LIBC.syscall(ctypes.c_long(facts["numbers"][name]), *arguments))


def some(path):
    with open(path, "rb") as file:
        return file.read(4096)


def connected(family, address):
    with socket.socket(family) as caller:
        caller.settimeout(5)
        caller.connect(address)
        return "connected"


def opened(family, kind=socket.SOCK_DGRAM):
    socket.socket(family, kind).close()
    return "opened"


def shadow_passwords(facts):
    return some("/etc/shadow")


def home_of_root(facts):
    return [name for name in os.listdir(pwd.getpwuid(0).pw_dir if os.path.exists("/etc/passwd") else "/root")
            if not any(path.startswith(f"/root/{name}") for path in facts["readable"])]


def readable_file_elsewhere(facts):
    return some(facts["secret_file"])


def environment(facts):
    return facts["secret"] in json.dumps(dict(os.environ))


def environment_of_others(facts):
    found = b""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found += some(path)
        except OSError:
            continue
    return facts["secret"].encode() in found


def command_lines_of_others(facts):
    return [pid for pid in glob.glob("/proc/[0-9]*") if os.path.basename(pid) == str(facts["pid"])]


def memory_of_another(facts):
    return os.open(f"/proc/{facts['pid']}/mem", os.O_RDONLY)


def kill_of_another(facts):
    os.kill(facts["pid"], 0)
    return "could"


def trace(facts):
    return refused(LIBC.ptrace(0, 0, 0, 0))


def memory_by_call(facts):
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    return raw(facts, "process_vm_readv", os.getpid(), vector, 1, vector, 1, 0)


def loopback(facts):
    return connected(socket.AF_INET, ("127.0.0.1", facts["port"]))


def abstract_socket(facts):
    return connected(socket.AF_UNIX, "\0" + facts["abstract"])


def internet_socket(facts):
    return opened(socket.AF_INET)


def internet6_socket(facts):
    return opened(socket.AF_INET6)


def netlink_socket(facts):
    return opened(socket.AF_NETLINK, socket.SOCK_RAW)


def packet_socket(facts):
    return opened(socket.AF_PACKET, socket.SOCK_RAW)


def vsock_socket(facts):
    return opened(socket.AF_VSOCK, socket.SOCK_STREAM)


def crypto_socket(facts):
    return opened(socket.AF_ALG, socket.SOCK_SEQPACKET)


def write_elsewhere(facts):
    """A file without a name, which vanishes."""
    for folder in ("/", "/usr", "/usr/lib", "/usr/bin", "/etc", "/dev", "/root", "/work", "/var", sys.prefix,
                   os.path.dirname(__file__)):
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))
            return f"wrote to {folder}"
        except OSError:
            continue


def write_to_the_kernel(facts):
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj",
                 "/proc/self/uid_map", "/proc/self/mem", "/proc/sys/kernel/ns_last_pid"):
        try:
            os.close(os.open(path, os.O_WRONLY))
            return f"opened {path}"
        except OSError:
            continue


def links_out(facts):
    got = []
    if not os.access(facts["folder"], os.W_OK):
        return "no folder to try it in"
    for number, target in enumerate(("/etc/shadow", "/proc/1/root/etc/shadow", "/proc/self/root/etc/shadow",
                                     "/proc/1/cwd/etc/shadow", "../../../../../etc/shadow")):
        link = f"{facts['folder']}/link-{os.getpid()}-{number}"
        os.symlink(target, link)
        try:
            got.append(some(link))
        except OSError:
            continue
        finally:
            os.unlink(link)
    return got


def devices_of_the_machine(facts):
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}
    return [path for path in glob.glob("/dev/*") if not os.path.islink(path) and not os.path.isdir(path)
            and os.path.basename(path) not in harmless]


def own_device(facts):
    path = f"{facts['folder']}/device-{os.getpid()}"
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 1))
    os.unlink(path)
    return "made"


def mount(facts):
    return refused(LIBC.mount(b"none", b"/none/such", b"tmpfs", 0, None))


def mount_anew(facts):
    return raw(facts, "fsopen", b"no such kind", 0)


def mount_tree(facts):
    return raw(facts, "open_tree", -100, b"/none/such", 0)


def root_elsewhere(facts):
    return refused(LIBC.chroot(b"/none/such"))


def unshare(facts):
    return refused(LIBC.unshare(NEW_USER))


def clone_into_a_namespace(facts):
    result = LIBC.syscall(ctypes.c_long(facts["numbers"]["clone"]), NEW_USER | signal.SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return refused(result)


def clone3(facts):
    return raw(facts, "clone3", None, 0)


def enter_a_namespace(facts):
    return raw(facts, "setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


def setuid_program(facts):
    said = subprocess.run([facts["setuid_program"], "-u"], capture_output=True, text=True).stdout.strip()
    return said == "0"


def become_root(facts):
    os.setresuid(0, 0, 0)
    return "root"


def new_privileges(facts):
    return LIBC.prctl(39, 0, 0, 0, 0) != 1 and "may come with a program"


def capabilities(facts):
    lines = [line.split() for line in some("/proc/self/status").decode().splitlines()]
    sets = ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:")
    return [words for words in lines if words[0] in sets and int(words[1], 16)]


def core_file(facts):
    os.chdir(facts["folder"])
    if not os.access(".", os.W_OK):
        return "no folder to try it in"
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    child = os.fork()
    if child == 0:
        os.abort()
    status = os.waitpid(child, 0)[1]
    left = glob.glob(f"{facts['folder']}/core*")
    for path in left:
        os.unlink(path)
    return left or os.WCOREDUMP(status)


def higher_limits(facts):
    for name in ("NOFILE", "NPROC", "DATA", "FSIZE", "CORE"):
        number = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(number)
        if hard == resource.RLIM_INFINITY:
            return f"{name} is unbounded"
        try:
            resource.setrlimit(number, (soft, hard + 1))
            return f"{name} was raised"
        except ValueError:
            continue


def io_uring(facts):
    return raw(facts, "io_uring_setup", 0, None)


def userfaultfd(facts):
    return raw(facts, "userfaultfd", 0xFFFF)


def keys(facts):
    return raw(facts, "keyctl", 0, -3, 1)


def add_key(facts):
    return raw(facts, "add_key", None, None, None, 0, 0)


def bpf(facts):
    return raw(facts, "bpf", 9999, None, 0)


def perf_events(facts):
    return raw(facts, "perf_event_open", None, 0, -1, -1, 0)


def personality(facts):
    return refused(LIBC.personality(0x0040000))


def unnamed_memory(facts):
    return os.memfd_create("x")


def shared_segments(facts):
    result = LIBC.shmget(0, 4096, 0o600)
    if result != -1:
        LIBC.shmctl(result, 0, None)
    return refused(result)


def host_name(facts):
    return raw(facts, "sethostname", None, -1)


def terminal_input(facts):
    return refused(LIBC.ioctl(0, ctypes.c_ulong(0x5412), b"x"))


def terminal_input_in_more_bits(facts):
    return refused(LIBC.ioctl(0, ctypes.c_ulong(0x100005412), b"x"))


def calls_of_x32(facts):
    return f"returned {LIBC.syscall(ctypes.c_long(0x40000000 | 39))}" if is_x86() else unavailable()


def calls_of_i386(facts):
    """getpid by the door of 32-bit programs."""
    if not is_x86():
        return unavailable()
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    called = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return f"returned {called()}"


def is_x86():
    return platform.machine() == "x86_64"


def unavailable():
    raise NotImplementedError


ESCAPES = {name: value for name, value in list(globals().items())
           if callable(value) and getattr(value, "__code__", None) is not None
           and value.__code__.co_varnames[:1] == ("facts",) and value.__code__.co_argcount == 1}


def tried(escape, facts):
    """In a process of its own, which it may lose."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            got = escape(facts)
        except (OSError, ValueError, KeyError) as error:
            got = ""
            os.write(2, f"{escape.__name__}: {error!r}\n".encode())
        except NotImplementedError:
            got = "unavailable"
        os.write(writing, (str(got) if got else "").encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        got = file.read().decode(errors="replace")
    os.waitpid(child, 0)
    return got


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({name: tried(escape, asked) for name, escape in ESCAPES.items()}))
