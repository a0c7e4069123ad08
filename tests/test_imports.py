"""Imports point one way, from the loop down to the mathematics, and nothing in the library needs a bridge or torch."""
import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ORDER = [{"types"}, {"config"}, {"kernels", "distributed", "rl"}, {"model"}, {"data", "envs"}, {"rollout"}, {"serving"}, {"training"},
         {"planning"}]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FILES = sorted((ROOT / "jaxrl_moe").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_nothing_above_it(path):
    own = path.relative_to(ROOT / "jaxrl_moe").with_suffix("").parts[0]
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in ("bridges", "scripts", "configs", "benchmarks", "tests"), f"{path} imports {name}"
        if parts[0] == "jaxrl_moe" and len(parts) > 1 and parts[1] in LEVEL and own in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[own], f"{path} imports {name}"


def test_the_library_imports_torch_nowhere():
    users = [path for path in FILES if any(name.split(".")[0] == "torch" for name in imported(path))]
    assert not users, users
