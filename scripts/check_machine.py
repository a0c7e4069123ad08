"""Checks what `make` needs before it builds the virtual environment; prints the line that mends what is
missing."""
import argparse
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

APT = {"git": "git", "venv": "python3-venv"}


def missing() -> "list[str]":  # quoted: whatever python3 there is reads this
    """Names of the apt packages to install."""
    lacking = [] if shutil.which("git") else ["git"]
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        lacking.append("venv")
    return [APT[name] for name in lacking]


def find_python(version: str) -> "str | None":
    """A Python of this version that can make virtual environments: $PYTHON312, pyenv's newest, or python3.12;
    None if there is none."""
    named = os.environ.get(_variable(version))
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv") / "versions"
    newest_first = sorted(pyenv.glob(f"{version}.*/bin/python"),
                          key=lambda path: int("0" + path.parts[-3].split(".")[2]), reverse=True)
    candidates = [named] if named else [*map(str, newest_first), shutil.which(f"python{version}")]
    return next((path for path in candidates if path and _is_python(path, version)), None)


def _variable(version: str) -> str:
    return "PYTHON" + version.replace(".", "")


def _is_python(path: str, version: str) -> bool:
    asked = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([path, "-c", asked], capture_output=True, text=True).stdout.strip() == version
    except OSError:
        return False


def check() -> None:
    """Exits with what is missing on this machine."""
    if sys.version_info < (3, 11):  # noqa: UP036  (run by whatever python3 there is)
        sys.exit(f"Python >= 3.11 is needed, this is {sys.version.split()[0]}. Install one, then run make "
                 "with PYTHON=python3.11 (on Debian and Ubuntu: apt-get install python3.11 python3.11-venv).")
    packages = missing()
    if packages:
        sys.exit(f"Missing on this machine; run: apt-get install -y {' '.join(packages)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--find_python", metavar="3.12",
                        help="print the path of a Python of this version, and check nothing else")
    version = parser.parse_args().find_python
    if version is None:
        check()
        return
    path = find_python(version)
    variable = _variable(version)
    if path is None:
        elsewhere = "" if variable in os.environ else f", pyenv's versions and python{version}"
        looked_at = f"${variable}{elsewhere}"
        sys.exit(f"No Python {version} with venv and ensurepip is here: looked at {looked_at}. "
                 f"Install one (pyenv install {version}), or set {variable}=/path/to/python{version}.")
    print(path)


if __name__ == "__main__":
    main()
