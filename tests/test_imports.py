"""Imports point one way, from the loop down to the mathematics, and nothing in the library needs a bridge or
torch. `python tests/test_imports.py` draws them anew in CONTRIBUTING.md."""
import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Rooms and root files of the library, from those that know nothing of others to those that know all. A module
# imports what stands in its own line or above it. `if TYPE_CHECKING:` does not count: names of types carry no
# code.
ORDER = [
    {"__init__"}, {"spelling"}, {"types"}, {"protocols"}, {"partials", "paths"},
    {"expressions", "log_files", "outside", "system_errors", "foreign_errors", "endings", "begin"},
    {"config"}, {"phases"}, {"hosts"}, {"distributed"}, {"kernels", "rl"}, {"model"}, {"data"},
    {"outgoing", "sandbox"}, {"judges"}, {"envs"}, {"engine"}, {"rollout"}, {"learning"}, {"runs"},
    {"demonstrations"}, {"checks"}, {"planning"}, {"training"},
    {"options", "recipes", "help_text", "foreign"}, {"cli"}]
# Stands beside the loop, which reaches it through a protocol: these are all that it may use.
SERVING = {
    "serving", "types", "protocols", "config", "log_files", "outside", "hosts", "distributed", "model",
    "partials", "paths", "spelling", "foreign_errors", "system_errors", "data", "outgoing", "sandbox",
    "judges", "envs", "engine", "rollout", "options", "endings", "__init__"
}
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
KERNELS = ROOT / "jaxrl_moe" / "envs" / "kernels"
# Data that is written in Python, problems and solutions, and programs for sandboxes: they import torch and
# triton and run in processes of their own.
OUTSIDE = [KERNELS / "problems", KERNELS / "verdicts" / "inside"]
FILES = sorted(path for path in (ROOT / "jaxrl_moe").rglob("*.py")
               if not any(path.is_relative_to(folder) for folder in OUTSIDE))


def imported(path):
    tree = ast.parse(path.read_text())
    for node in [*ast.walk(tree)]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(path):
    """Rooms and root files of the library that a file imports from."""
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "jaxrl_moe" and len(parts) > 1:
            yield name, parts[1] if (ROOT / "jaxrl_moe" / parts[1]).is_dir() or (
                ROOT / f"jaxrl_moe/{parts[1]}.py").exists() else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_nothing_above_it(path):
    own = path.relative_to(ROOT / "jaxrl_moe").with_suffix("").parts[0]
    for name in imported(path):
        assert name.split(".")[0] not in ("bridges", "scripts", "configs", "benchmarks",
                                          "tests"), f"{path} imports {name}"
    for name, room in rooms(path):
        if own == "serving":
            assert room in SERVING, f"{path} imports {name}"
        else:
            assert room in LEVEL and LEVEL[room] <= LEVEL[own], f"{path} imports {name}"


def test_every_room_is_a_package():
    folders = {path.parent for path in [*FILES, *(ROOT / "bridges").rglob("*.py")]}
    bare = {folder for folder in folders if not (folder / "__init__.py").exists()}
    assert bare == {ROOT / "bridges" / "servers" / "worker"}  # which runs inside vLLM


def test_the_library_imports_torch_nowhere():
    users = [path for path in FILES if any(name.split(".")[0] == "torch" for name in imported(path))]
    assert not users, users
    inside = "jaxrl_moe.envs.kernels.verdicts.inside"
    used = {name for path in FILES for name in imported(path) if name.startswith(f"{inside}.")}
    assert used == {f"{inside}.frames"}, "of the programs for sandboxes only how they speak is used outside"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_import_no_tests_and_only_their_own_test_imports_the_benchmarks(path):
    for name in imported(path):
        assert not any(part.startswith("test_") for part in name.split(".")), f"{path} imports {name}"
        assert name.split(".")[0] != "benchmarks" or "benchmarks" in path.parts, f"{path} imports {name}"


# What all may use.
COMMON = {
    "__init__", "types", "protocols", "config", "phases", "expressions", "log_files", "outside", "partials",
    "paths", "spelling", "system_errors", "foreign_errors", "endings"
}
DRAWN = re.compile(r"(<!-- imports: [^\n]*-->\n).*?(<!-- end of imports -->)", re.DOTALL)


def arrows(root):
    """{room: rooms that it imports from}, bridges as one room, without what is COMMON."""
    drawn = {}
    for path in sorted([*(root / "jaxrl_moe").rglob("*.py"), *(root / "bridges").rglob("*.py")]):
        library, *names = path.relative_to(root).with_suffix("").parts
        room = names[0] if library == "jaxrl_moe" else "bridges"
        used = {other for _, other in rooms(path)} - COMMON - {room}
        if room not in COMMON:
            drawn.setdefault(room, set()).update(used)
    return drawn


def drawing(root=ROOT):
    """The rooms' imports as a Mermaid graph; an arrow that a longer way implies is left out."""
    direct = arrows(root)

    @functools.cache
    def reached(room):
        return frozenset(direct.get(room, ())).union(*(reached(other) for other in direct.get(room, ())))

    lines = ["flowchart TD"]
    for room, others in sorted(direct.items()):
        implied = frozenset().union(*(reached(other) for other in others))
        lines += [f"    {room} --> {other}" for other in sorted(others - implied)]
    return "\n".join(lines) + "\n"


def test_contributing_draws_the_imports_as_they_are():
    drawn = DRAWN.search((ROOT / "CONTRIBUTING.md").read_text())[0]
    assert drawing() in drawn, "run python tests/test_imports.py"


if __name__ == "__main__":
    page = ROOT / "CONTRIBUTING.md"
    drawn = f"```mermaid\n{drawing()}```\n"
    page.write_text(DRAWN.sub(lambda match: match[1] + drawn + match[2], page.read_text()))
