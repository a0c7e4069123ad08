"""Checks what `make` needs before it builds the virtual environment; prints the line that mends what is missing."""
import importlib.util
import shutil
import sys

APT = {"git": "git", "venv": "python3-venv"}


def missing():
    """Names of the apt packages to install."""
    lacking = [] if shutil.which("git") else ["git"]
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        lacking.append("venv")
    return [APT[name] for name in lacking]


def main():
    if sys.version_info < (3, 11):  # noqa: UP036  (run by whatever python3 there is)
        sys.exit(f"Python >= 3.11 is needed, this is {sys.version.split()[0]}. Install one, "
                 "then run make with PYTHON=python3.11 (on Debian and Ubuntu: apt-get install python3.11 python3.11-venv).")
    packages = missing()
    if packages:
        sys.exit(f"Missing on this machine; run: apt-get install -y {' '.join(packages)}")


if __name__ == "__main__":
    main()
