"""Where a package is: the Python that has it, and what of this process's environment its workers see."""
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

from jaxrl_moe.types import UserError

_GUARD = pathlib.Path(__file__).parent / "inside" / "worker_guard.py"
_ROOT = pathlib.Path(__file__).parents[3]  # of the repository, where the library is installed from one
# What a worker needs of the environment; nothing that holds a secret.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH",
           "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_HOME", "HF_HUB_OFFLINE",
           "HF_DATASETS_OFFLINE", "NO_PROXY", "no_proxy")


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a worker is started.

    Attributes:
      package: its name, for messages.
      python: the interpreter.
      file: what it runs, which calls worker_loop.serve.
      environment: its environment variables, all of them.
      install: the command that installs the package.
      limit: the task's setting that bounds how long a call may take.
    """
    package: str
    python: str
    file: pathlib.Path
    environment: Mapping[str, str]
    install: str
    limit: str

    def command(self, lifeline: int) -> list[str]:
        """The command line; -P keeps the folder of a file from hiding packages."""
        return [self.python, "-P", str(_GUARD), str(lifeline), str(self.file)]


def python_of(name: str, given: str, install: str) -> str:
    """The interpreter that has a package.

    Args:
      name: of its environment, as in .venv-NAME, which is sought where the command was given and in the
        repository; empty: this process's own.
      given: the task's setting `python`; empty: that of the environment.
      install: the command that makes the environment.

    Raises:
      UserError: it is not there.
    """
    if given:
        if not os.access(given, os.X_OK) or not os.path.isfile(given):
            raise UserError(f"python = {given!r} is no program that can be run: give the path of an "
                            f"environment's bin/python, or run `{install}` and leave it out.")
        return given
    if not name:
        return sys.executable
    folders = dict.fromkeys((pathlib.Path.cwd(), _ROOT))
    for folder in folders:
        place = folder / f".venv-{name}" / "bin" / "python"
        if os.access(place, os.X_OK):
            return str(place)
    raise UserError(f"There is no environment .venv-{name} in {' or '.join(map(str, folders))}: run "
                    f"`{install}` there, or name the interpreter of another one by the setting python.")


def environment(variables: Sequence[str]) -> dict[str, str]:
    """The variables that a worker sees.

    Args:
      variables: names of further ones that it shall see, such as a key of its own.

    Raises:
      UserError: one of these is not set.
    """
    for name in variables:
        if name not in os.environ:
            raise UserError(f"variables names the environment variable {name!r}, which is not set: set it, "
                            "or leave it out.")
    passed = {name: os.environ[name] for name in (*_PASSED, *variables) if name in os.environ}
    return passed | {name: value for name, value in os.environ.items() if name.startswith("LC_")}
