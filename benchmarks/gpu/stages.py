"""The stages of the GPU check, in the order in which they run."""
from typing import NamedTuple


class Stage(NamedTuple):
    """module: has run(recorder, settings); share: of the time, among the stages that are still to run."""
    letter: str
    title: str
    module: str
    share: float


STAGES = (
    Stage("a", "numerics against float64", "benchmarks.gpu.exact.stage", 85),
    Stage("b", "tests that need a GPU", "benchmarks.gpu.suite", 85),
    Stage("c", "kernels at the 30B shape", "benchmarks.gpu.kernels", 70),
    Stage("d", "the 30B shape: training, decoding, memory", "benchmarks.gpu.whole.stage", 170),
    Stage("e", "transformers and PEFT at the same shape", "benchmarks.gpu.whole.peers", 60),
    Stage("f", "quickstart: learning curve, resumption, deterministic flags", "benchmarks.gpu.quickstart", 70),
)
