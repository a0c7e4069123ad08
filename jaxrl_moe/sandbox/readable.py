"""What programs need to read to run at all."""
import functools
import glob
import json
import os
import subprocess
import sys

from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache")
_PROGRAMS = ("/usr/bin", "/bin", "/usr/libexec", "/usr/include", "/etc/alternatives")
_ASKED = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.executable]))"


def libraries() -> tuple[str, ...]:
    """The system's shared libraries."""
    return tuple(filter(os.path.exists, _LIBRARIES))


def programs() -> tuple[str, ...]:
    """The system's programs, a compiler's headers included, and what they need."""
    return libraries() + tuple(filter(os.path.exists, _PROGRAMS))


@functools.cache
def python(program: str = sys.executable) -> tuple[str, ...]:
    """An interpreter with what is installed for it, its virtual environment included, and libraries.

    Raises:
      UserError: it does not run.
    """
    asked = subprocess.run([program, "-I", "-c", _ASKED], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"{quoted(program)} is no Python that runs: {quoted(asked.stderr[-200:])}.")
    prefix, base, executable = json.loads(asked.stdout)
    itself = os.path.dirname(os.path.dirname(os.path.realpath(executable)))
    homes = {prefix, base, os.path.realpath(base), itself}
    paths = homes - {"/", "/usr"}
    if paths < homes:  # the system's own
        paths |= set(programs())
    return tuple(sorted(paths | set(libraries())))


def nvidia_devices() -> tuple[str, ...]:
    """The devices of NVIDIA's GPUs."""
    return tuple(sorted(glob.glob("/dev/nvidia*")))


def nvidia_files() -> tuple[str, ...]:
    """Of NVIDIA's driver and toolkit, what does not lie among the system's libraries."""
    return tuple(filter(os.path.exists, ("/usr/local/cuda", "/usr/local/nvidia")))
