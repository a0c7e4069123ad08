"""The problems: their layout, their solutions under Triton's interpreter, and these compiled for an H100. The
last two need torch and triton and are slow; they run in processes of their own, as the interpreter is chosen
before triton is imported."""
import ast
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
PROBLEMS = ROOT / "jaxrl_moe" / "envs" / "kernels" / "problems"
NAMES = sorted(str(path.relative_to(PROBLEMS).with_suffix("")) for path in PROBLEMS.glob("level*/*.py"))
PROGRAMS = ROOT / "tests" / "helpers" / "kernel_problems"
TRITON = pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in ("torch", "triton")),
                            reason="torch and triton are not both installed")
GRID_LIMITS = (2**31 - 1, 65535, 65535)


def parts(path):
    """{name: its node} of what a file has on its top level."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        for target in getattr(node, "targets", [node]):
            found[getattr(target, "id", getattr(target, "name", ""))] = node
    return found


def integers(found):
    values = {name: getattr(node, "value", None) for name, node in found.items()}
    return {name: node.value for name, node in values.items()
            if isinstance(node, ast.Constant) and type(node.value) is int}


def method(node, name):
    return next(child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == name)


def test_there_are_enough_problems_and_each_has_a_name_of_its_own():
    assert sum(name.startswith("level1/") for name in NAMES) >= 24
    assert sum(name.startswith("level2/") for name in NAMES) >= 20
    words = [name.split("_", 1)[1] for name in NAMES]
    assert len(set(words)) == len(NAMES)
    for level in ("level1", "level2"):
        numbers = [int(name.split("/")[1][:3]) for name in NAMES if name.startswith(level)]
        assert numbers == [*range(1, len(numbers) + 1)]


def test_there_are_solutions_for_the_problems_and_for_nothing_else():
    solved = PROBLEMS / "solutions"
    assert sorted(str(path.relative_to(solved).with_suffix("")) for path in solved.rglob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_has_what_its_loader_and_its_reader_look_for(name):
    path = PROBLEMS / f"{name}.py"
    found = parts(path)
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert [ast.unparse(base) for base in found["Model"].bases] == ["nn.Module"]
    method(found["Model"], "forward")
    for function in ("get_inputs", "get_init_inputs"):
        assert not ast.unparse(found[function].args)
    sizes = [ast.literal_eval(found["SMALL"].value), *ast.literal_eval(found["VARIANTS"].value)]
    assert len(sizes) in (3, 4)
    for chosen in sizes:
        assert chosen and set(chosen) <= set(integers(found)), "a size that is no integer of the module"
        assert all(type(value) is int and value >= 0 for value in chosen.values())
    read = {node.id for node in ast.walk(ast.Module([found["get_inputs"], found["get_init_inputs"]], []))
            if isinstance(node, ast.Name)}
    assert set(integers(found)) <= read, "a size that the inputs do not follow"


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_launches_its_own_kernels_and_takes_what_the_problem_takes(name):
    path = PROBLEMS / "solutions" / f"{name}.py"
    found, problem = parts(path), parts(PROBLEMS / f"{name}.py")
    assert ast.get_docstring(ast.parse(path.read_text()))
    kernels = {name for name, node in found.items() if isinstance(node, ast.FunctionDef)
               and "triton.jit" in map(ast.unparse, node.decorator_list)}
    forward = method(found["ModelNew"], "forward")
    launched = {node.value.id for node in ast.walk(forward) if isinstance(node, ast.Subscript)
                and isinstance(node.value, ast.Name) and node.value.id in kernels}
    assert kernels and launched == kernels
    assert ast.unparse(forward.args) == ast.unparse(method(problem["Model"], "forward").args)
    torch_calls = {ast.unparse(node.func) for node in ast.walk(forward) if isinstance(node, ast.Call)
                   and ast.unparse(node.func).startswith("torch.")}
    assert torch_calls <= {"torch.empty", "torch.empty_like"}, "torch computes in its place"


def test_problems_and_solutions_import_torch_and_triton_alone():
    modules = set()
    for path in PROBLEMS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    assert modules == {"torch", "torch.nn.functional", "triton", "triton.language"}


def run(program, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, PROGRAMS / program, *map(str, arguments)], env=environment | variables,
                   check=True, timeout=7200)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "runs.jsonl"
    run("run.py", out, *NAMES, TRITON_INTERPRET="1")
    return out


@TRITON
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_solutions_give_what_references_give_for_all_small_sizes(runs):
    faults = {result["name"]: result["faults"] for result in lines(runs) if result["faults"]}
    assert not faults
    assert [result["name"] for result in lines(runs)] == NAMES


@TRITON
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_full_sizes_stay_within_the_grid_that_a_gpu_has(runs):
    for result in lines(runs):
        for launch in result["launches"]["full"]:
            assert all(size <= limit for size, limit in zip(launch["grid"], GRID_LIMITS)), result["name"]


@TRITON
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_kernel_compiles_for_an_h100_as_it_is_launched_at_small_and_at_full_sizes(runs, tmp_path):
    out = tmp_path / "compiled.jsonl"
    run("compile.py", runs, out, TRITON_CACHE_DIR=str(tmp_path / "cache"))
    compiled = lines(out)
    assert not {(result["name"], result["kernel"]): result["fault"] for result in compiled if result["fault"]}
    assert {result["name"] for result in compiled} == set(NAMES)
