"""Cases of tests.planning.gpu_cases in a process that has the GPUs' compiler, or a skip that says how to get
it."""
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

import pytest

from jaxrl_moe.distributed.chips import CHIPS
from jaxrl_moe.planning import target

ROOT = pathlib.Path(__file__).parents[2]
MIB = 2**20


@functools.cache
def cases(group: str, chip: str, *names: str) -> dict:
    """{case: findings}; compiled once a process."""
    if not target.at_hand():
        pytest.skip("The compiler for GPUs is not here: make target.")
    variables = target.environment(CHIPS[chip], 1)
    variables["PYTHONPATH"] = ":".join(filter(None, [variables.get("PYTHONPATH"), str(ROOT)]))
    with tempfile.TemporaryDirectory() as folder:
        # The tests' own flags are for CPUs. With these, a kernel that several programs have is compiled once.
        variables["XLA_FLAGS"] = ("--xla_gpu_enable_llvm_module_compilation_parallelism=true "
                                  f"--xla_gpu_kernel_cache_file={folder}/kernels")
        command = [sys.executable, "-m", "tests.planning.gpu_cases", group, chip, *names]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def found(group: str, chip: str, case: str, *names: str) -> dict:
    findings = cases(group, chip, *names)[case]
    assert "error" not in findings, findings["error"]
    return findings
