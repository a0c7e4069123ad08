"""The stages of the GPU check, in the order in which they run.

Shares are guesses of what each takes on a card; what one leaves goes to those after it. Where a lease is
short, two calls with half of the stages each say more than one in which several are cut.
"""
from typing import NamedTuple


class Stage(NamedTuple):
    """module: has run(recorder, settings); share: of the time, among the stages that are still to run."""
    letter: str
    title: str
    module: str
    share: float


STAGES = (
    Stage("a", "numerics against float64", "benchmarks.gpu.exact", 60),
    Stage("b", "tests that need a GPU", "benchmarks.gpu.suite", 90),
    Stage("c", "kernels at the 30B shape", "benchmarks.gpu.kernels", 55),
    Stage("d", "the 30B shape: training, decoding, memory", "benchmarks.gpu.whole.stage", 145),
    Stage("e", "transformers and PEFT at the same shape", "benchmarks.gpu.whole.peers", 55),
    Stage("f", "quickstart: learning curve, resumption, deterministic "
               "flags", "benchmarks.gpu.quickstart", 135),
)
