"""A program: compiles for sm_90 the kernels whose launches run.py recorded; no GPU is needed.

`compile.py RECORDED OUT [ones]` writes one JSON line for each kernel and each set of types and constants.
With `ones`, numbers that were 1 are constants, as Triton has it when a kernel runs."""
import json
import pathlib
import sys
import time

import triton
from run import PROBLEMS, load
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SHARED_MEMORY = 227 * 1024  # bytes that a block may have on an H100 or H200


def wanted(result, with_ones):
    """Launches without those that are compiled alike."""
    alike = {}
    for launches in result["launches"].values():
        for launch in launches:
            ones = launch["ones"] if with_ones else []
            types = launch["types"] | {name: "constexpr" for name in ones}
            constants = launch["constants"] | {name: 1 for name in ones}
            key = json.dumps([launch["kernel"], types, constants, launch["options"]])
            alike[key] = (launch["kernel"], types, constants, launch["options"])
    return alike.values()


def compiled(module, kernel, types, constants, options):
    begin = time.perf_counter()
    line = {"kernel": kernel, "constants": constants, "fault": "", "shared": 0}
    try:
        source = ASTSource(getattr(module, kernel), types, constants)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        line["shared"] = made.metadata.shared
        if not made.asm.get("cubin") or made.metadata.shared > SHARED_MEMORY:
            line["fault"] = f"no cubin, or {made.metadata.shared} bytes of shared memory"
    except Exception as error:  # told beside the others' results
        line["fault"] = f"{type(error).__name__}: {error}"
    return line | {"seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    with open(sys.argv[2], "w") as lines:
        for text in pathlib.Path(sys.argv[1]).read_text().splitlines():
            recorded = json.loads(text)
            solution = load(PROBLEMS / "solutions" / f"{recorded['name']}.py")
            for launch in wanted(recorded, "ones" in sys.argv[3:]):
                lines.write(json.dumps({"name": recorded["name"]} | compiled(solution, *launch)) + "\n")
                lines.flush()
