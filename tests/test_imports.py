"""Imports point one way, from the loop down to the mathematics, and nothing in the library needs a bridge or
torch."""
import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Rooms and root files of the library, from those that know nothing of others to those that know all. A module
# imports what stands in its own line or above it. `if TYPE_CHECKING:` does not count: names of types carry no
# code.
ORDER = [{"__init__"}, {"types"}, {"protocols"}, {"log_files"}, {"config"}, {"phases"}, {"hosts"},
         {"distributed"}, {"kernels", "rl"}, {"model"}, {"data"}, {"envs"}, {"engine"}, {"rollout"},
         {"learning"}, {"runs"}, {"checks"}, {"planning"}, {"training"}, {"options", "recipes", "help_text"},
         {"cli"}]
# Stands beside the loop, which reaches it through a protocol: these are all that it may use.
SERVING = {
    "serving", "types", "protocols", "config", "log_files", "hosts", "distributed", "model", "data", "envs",
    "engine", "rollout", "__init__"
}
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FILES = sorted((ROOT / "jaxrl_moe").rglob("*.py"))


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


def test_the_library_imports_torch_nowhere():
    users = [path for path in FILES if any(name.split(".")[0] == "torch" for name in imported(path))]
    assert not users, users


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_import_no_tests_and_only_their_own_test_imports_the_benchmarks(path):
    for name in imported(path):
        assert not any(part.startswith("test_") for part in name.split(".")), f"{path} imports {name}"
        assert name.split(".")[0] != "benchmarks" or "benchmarks" in path.parts, f"{path} imports {name}"
