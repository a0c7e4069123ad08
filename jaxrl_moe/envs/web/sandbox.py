"""A browser that is shut in: bubblewrap leaves it an empty network, its own programs and fonts to read, and
some memory to write to. Its own sandbox is on within."""
import os
import pathlib
import pwd
import shutil
from collections.abc import Sequence

from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

BROWSERS = ("/usr/lib/chromium/chromium", "/usr/lib64/chromium-browser/chromium-browser",
            "/usr/lib/chromium-browser/chromium-browser", "/opt/google/chrome/chrome")
READABLE = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/share/fonts", "/usr/share/fontconfig",
            "/usr/local/share/fonts", "/etc/fonts", "/etc/ld.so.cache", "/var/cache/fontconfig")
LINKED = ("/lib", "/lib64", "/lib32")  # to /usr on most systems, folders on others
DISK_BYTES = 2**26    # of each of its folders in memory
MEMORY_BYTES = 2**31  # of data that each of its processes may have
FILE_BYTES = 2**26    # of a file, which shared memory is too
_UIDS = range(61_000, 61_100)
_MEND = ("Install Debian's packages `bubblewrap` and `chromium`, or serve the task that needs neither: "
         "--name=agora_ex_text.")


def browser_path(named: str = "") -> pathlib.Path:
    """The browser's program itself, not a script that starts it.

    Args:
      named: its path; empty: it is sought where packages put it.

    Raises:
      UserError: there is none, or no bubblewrap.
    """
    places = (named,) if named else BROWSERS
    path = next((pathlib.Path(each).resolve() for each in places if os.access(each, os.X_OK)), None)
    if path is None or not path.is_file():
        raise UserError(f"Pages are shown by Chromium, which is not at {' or '.join(places)}. {_MEND}")
    if path.open("rb").read(4) != b"\x7fELF":
        raise UserError(f"{quoted(str(path))} is a script: name the program that it starts. {_MEND}")
    if shutil.which("bwrap") is None:
        raise UserError("Pages are shown in a sandbox of bubblewrap (bwrap), which is not installed. "
                        f"{_MEND}")
    return path


def shut_in(program: pathlib.Path, options: Sequence[str]) -> list[str]:
    """The command line that runs a program in the sandbox."""
    command = ["bwrap", "--die-with-parent", "--new-session", "--unshare-user", "--unshare-ipc",
               "--unshare-pid", "--unshare-net", "--unshare-uts", "--clearenv", "--setenv", "HOME", "/tmp",
               "--setenv", "LANG", "C.UTF-8", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):
        command += ["--size", str(DISK_BYTES), "--tmpfs", folder]
    for path in (*READABLE, str(program.parent)):
        command += ["--ro-bind-try", path, path]
    for path in LINKED:
        linked = os.path.islink(path)
        command += ["--symlink", os.readlink(path), path] if linked else ["--ro-bind-try", path, path]
    return [*command, "--chdir", "/tmp", str(program), *options]


def limited(command: Sequence[str], reading: int, writing: int) -> list[str]:
    """The command line with bounds on its memory and files, and with two file descriptors of this process as
    its third and fourth."""
    script = (f"ulimit -c 0 -d {MEMORY_BYTES // 1024} -f {FILE_BYTES // 1024} && "
              f"exec 3<&{reading} 4>&{writing} {reading}<&- {writing}>&- && exec \"$@\"")
    return ["bash", "-c", script, "bash", *command]


def identity() -> dict[str, int | list[int]]:
    """Arguments of subprocess.Popen by which a process of root's is nobody's; none for others, whose sandbox
    holds them as they are.

    Raises:
      UserError: all numbers that are tried belong to somebody.
    """
    if os.geteuid() != 0:
        return {}
    owned = {account.pw_uid for account in pwd.getpwall()}
    free = next((uid for uid in _UIDS if uid not in owned), None)
    if free is None:
        raise UserError(f"All user ids from {_UIDS.start} to {_UIDS.stop - 1} belong to somebody: start the "
                        "server as a user without privileges.")
    return {"user": free, "group": free, "extra_groups": []}
