"""A program, for TRITON_INTERPRET=1: runs solutions beside their problems on the CPU, at small sizes.

`run.py OUT LEVEL/NAME ...` writes to OUT one JSON line for each problem: what went wrong, processor seconds,
the largest share of the tolerance that an output needed, and the launches, at full sizes too, where nothing
runs."""
import importlib.util
import json
import pathlib
import sys
import time

import torch
from triton.runtime import interpreter
from triton.runtime.jit import mangle_type

PROBLEMS = pathlib.Path(__file__).parents[3] / "jaxrl_moe" / "envs" / "kernels" / "problems"
SEEDS = (0, 1, 2)
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 1e-2}


class Launches:
    """What kernels were launched with, recorded in place of the interpreter's own launch."""

    def __init__(self):
        self.runs, self.seen, self.by_size = True, [], {}
        self._run = interpreter.InterpretedFunction.run
        interpreter.InterpretedFunction.run = lambda fn, *args, **kwargs: self._launch(fn, args, kwargs)

    def _launch(self, fn, args, kwargs):
        self.seen.append(record(fn, args, kwargs))
        return self._run(fn, *args, **kwargs) if self.runs else None

    def take(self, size):
        self.by_size[size], self.seen = self.seen, []


def record(fn, args, kwargs):
    given = dict(zip(fn.arg_names, args)) | kwargs
    constant = {name for name, note in fn.fn.__annotations__.items() if "constexpr" in str(note)}
    types = {name: "constexpr" if name in constant else mangle_type(given[name]) for name in fn.arg_names}
    ones = [name for name in fn.arg_names if type(given[name]) is int and given[name] == 1]
    return {"kernel": fn.fn.__name__, "grid": list(given["grid"]), "types": types, "ones": ones,
            "constants": {name: given[name] for name in fn.arg_names if name in constant},
            "options": {name: given[name] for name in ("num_warps", "num_stages") if name in given}}


def load(path, sizes=()):
    spec = importlib.util.spec_from_file_location("problem", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(sizes)
    return module


def build(name, sizes, seed):
    """(reference, solution, inputs), the first two with the same parameters."""
    problem, solution = load(PROBLEMS / f"{name}.py", sizes), load(PROBLEMS / "solutions" / f"{name}.py")
    models = []
    for kind in (problem.Model, solution.ModelNew):
        torch.manual_seed(seed)
        models.append(kind(*problem.get_init_inputs()))
    torch.manual_seed(seed + 1000)
    return *models, problem.get_inputs()


def share_of_tolerance(got, expected):
    """1 is the most that passes; NaN never does."""
    limit = TOLERANCE.get(expected.dtype, 1e-4)
    got, expected = got.double(), expected.double()
    excess = (got - expected).abs() / (limit + limit * expected.abs())
    return float("inf") if excess.isnan().any() else excess.max().item()


def compare(name, sizes, seed):
    """(faults, seconds of the solution, share of the tolerance, expected)"""
    reference, solution, inputs = build(name, sizes, seed)
    faults, own = [], [value.clone() for value in inputs]
    expected = reference(*inputs)
    if any(not torch.equal(value, old) for value, old in zip(inputs, own)):
        faults.append("the reference changes its inputs")
    begin = time.process_time()
    got = solution(*inputs)
    seconds = time.process_time() - begin
    if any(not torch.equal(value, old) for value, old in zip(inputs, own)):
        faults.append("the solution changes its inputs")
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        kinds = f"{got.shape} {got.dtype}, not {expected.shape} {expected.dtype}"
        return [*faults, kinds], seconds, 0.0, expected
    share = share_of_tolerance(got, expected)
    return faults + [f"{share:.3g} times the tolerance"] * (share > 1), seconds, share, expected


def too_easy(results):
    """Answers without work that pass: zeros, a constant, and what was right for other inputs."""
    first, other = results[:2]
    cheats = {"zeros": torch.zeros_like(first), "another draw's": other}
    if first.numel() > 1:
        cheats["the mean"] = torch.full_like(first, first.double().mean().item())
    return [f"{words} passes" for words, cheat in cheats.items() if share_of_tolerance(cheat, first) <= 1]


def run(name, launches):
    small = load(PROBLEMS / f"{name}.py")
    faults, seconds, worst = [], 0.0, 0.0
    for number, sizes in enumerate([small.SMALL, *small.VARIANTS]):
        results = []
        for seed in SEEDS:
            wrong, took, share, expected = compare(name, sizes, seed)
            faults += [f"{sizes}, seed {seed}: {fault}" for fault in wrong]
            worst, seconds = max(worst, share), max(seconds, took)
            results.append(expected)
        launches.take(str(number))
        faults += too_easy(results) if number == 0 else []
    launches.runs = False
    with torch.device("meta"):
        _, solution, inputs = build(name, {}, 0)
        solution(*inputs)
    launches.runs = True
    launches.take("full")
    return {"name": name, "faults": faults, "seconds": seconds, "share": worst, "launches": launches.by_size}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    recorded = Launches()
    with open(sys.argv[1], "w") as lines:
        for wanted in sys.argv[2:]:
            try:
                line = run(wanted, recorded)
            except Exception as error:  # told beside the others' results
                recorded.runs = True
                line = {"name": wanted, "faults": [f"{type(error).__name__}: {error}"], "seconds": 0.0,
                        "share": 0.0, "launches": {}}
            lines.write(json.dumps(line) + "\n")
            lines.flush()
