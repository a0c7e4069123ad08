"""Stage c: attention, grouped products and fused log-probs at the 30B shape, beside the card's own
ceilings."""
import gc
from typing import NamedTuple

import jax

from benchmarks.gpu import kernel_cases
from benchmarks.gpu.kernel_cases import Kernel
from benchmarks.gpu.record import MEASURED, Recorder, Settings
from benchmarks.gpu.timing import Timed, timed

SETS = 3  # of inputs, in turn
SECONDS = {False: 0.6, True: 0.05}  # of timing, by whether it is a rehearsal


class Ceilings(NamedTuple):
    """FLOP/s of a large bfloat16 product and bytes/s of a large copy, both measured in this process; 0 while
    they are not known."""
    flops: float = 0.0
    bytes: float = 0.0


def run(recorder: Recorder, settings: Settings) -> None:
    size = kernel_cases.TINY if settings.rehearse else kernel_cases.FULL
    limits = Ceilings()
    for kernel in kernel_cases.ceilings(size) + kernel_cases.kernels(size):
        found = recorder.attempt(kernel.name, lambda kernel=kernel: measure(kernel, settings),
                                 settings.rehearse and kernel.gpu_only)
        gc.collect()  # its inputs may be gigabytes
        if found is None:
            continue
        if kernel.name == kernel_cases.PRODUCT:
            limits = limits._replace(flops=kernel.flops / found.seconds)
        if kernel.name == kernel_cases.COPY:
            limits = limits._replace(bytes=kernel.bytes / found.seconds)
        recorder.add(kernel.name, MEASURED, **figures(kernel, found, limits))


def measure(kernel: Kernel, settings: Settings) -> Timed:
    make = jax.jit(kernel.make)
    inputs = [jax.block_until_ready(make(jax.random.key(seed))) for seed in range(SETS)]
    return timed(jax.jit(kernel.run), inputs, SECONDS[settings.rehearse])


def figures(kernel: Kernel, found: Timed, limits: Ceilings) -> dict[str, float]:
    """With the share of the nearer ceiling, which is the least time over the measured one."""
    values = {
        "ms": 1e3 * found.seconds,
        "TFLOP/s": kernel.flops / found.seconds / 1e12,
        "GB/s": kernel.bytes / found.seconds / 1e9
    }
    if all(limits) and kernel.name not in (kernel_cases.PRODUCT, kernel_cases.COPY):
        values["share of the ceiling"] = max(kernel.flops / limits.flops,
                                             kernel.bytes / limits.bytes) / found.seconds
    return values | {"spread": found.spread}
