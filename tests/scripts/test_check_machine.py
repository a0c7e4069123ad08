"""What `make` looks for before it builds an environment."""
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_machine.py"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
VARIABLE = "PYTHON" + OWN.replace(".", "")


def find(tmp_path, version=OWN, **variables):
    environment = {
        name: value for name, value in os.environ.items() if name != VARIABLE
    } | {
        "PYENV_ROOT": str(tmp_path)
    } | variables
    return subprocess.run([sys.executable, str(SCRIPT), f"--find_python={version}"], env=environment,
                          capture_output=True, text=True)


def add_python(tmp_path, patch, text):
    folder = tmp_path / "versions" / f"{OWN}.{patch}" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text(text)
    (folder / "python").chmod(0o755)
    return str(folder / "python")


def test_the_newest_python_of_pyenv_that_works_is_found(tmp_path):
    add_python(tmp_path, 9, f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
    newer = add_python(tmp_path, 11, f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
    add_python(tmp_path, 12, "#!/bin/sh\nexit 1\n")
    assert find(tmp_path).stdout.strip() == newer


def test_a_python_that_is_named_goes_before_all_others_and_stands_alone(tmp_path):
    add_python(tmp_path, 11, f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
    assert find(tmp_path, **{VARIABLE: sys.executable}).stdout.strip() == sys.executable
    wrong = find(tmp_path, **{VARIABLE: "/nowhere/python"})
    assert wrong.returncode == 1 and f"looked at ${VARIABLE}." in wrong.stderr


def test_a_version_that_is_nowhere_is_named_with_what_to_do(tmp_path):
    absent = find(tmp_path, "3.99")
    assert absent.returncode == 1 and not absent.stdout
    assert "pyenv install 3.99" in absent.stderr and "set PYTHON399=" in absent.stderr
