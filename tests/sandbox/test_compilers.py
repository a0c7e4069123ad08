"""What kernels are made with works where all but a folder in memory is read-only."""
import dataclasses
import importlib.util

import pytest

from tests.helpers.shut_in import SMALL, run_python

ROOMY = dataclasses.replace(SMALL, memory_mib=6144, processes=256, seconds=900, disk_bytes=2**28,
                            file_bytes=2**28, open_files=1024)
PROGRAM = '''
import sys
with open("/tmp/kernel.py", "w") as file:
    file.write("""
import triton
import triton.language as tl

@triton.jit
def double(x, n, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + places, tl.load(x + places, places < n) * 2, places < n)
""")
sys.path.insert(0, "/tmp")
import kernel
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
source = ASTSource(kernel.double, signature={"x": "*fp32", "n": "i32", "BLOCK": "constexpr"},
                   constexprs={"BLOCK": 64})
made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
print(made.asm["cubin"][:4], int(torch.arange(4).sum()), "sm_90" in made.asm["ptx"])
'''


@pytest.mark.slow
def test_torch_and_triton_work_and_compile_for_gpus(kind):
    for name in ("torch", "triton"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    ended = run_python(kind, PROGRAM, bounds=ROOMY, isolated=("-I",),
                       environment={"HOME": "/tmp", "TRITON_CACHE_DIR": "/tmp/cache"})
    assert ended.stdout.decode().strip() == "b'\\x7fELF' 6 True", (ended.cause, ended.stderr[-2000:].decode())
