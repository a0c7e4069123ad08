"""What is said of a candidate, and what it rests on."""
import dataclasses
import enum


class Basis(enum.StrEnum):
    """What a verdict rests on."""
    SOURCE = "source"            # its source alone, which was not run
    INTERPRETER = "interpreter"  # Triton's interpreter, at small shapes
    DEVICE = "device"            # a GPU


class Fault(enum.StrEnum):
    """What is wrong with a candidate."""
    NO_CODE = "no_code"          # the answer has no block of code
    REFUSED = "refused"          # its source says what it may not
    RAISED = "raised"            # it raised an exception
    NOT_COMPILED = "not_compiled"  # a kernel of its is no program for the GPU
    MISMATCH = "mismatch"        # its output is not the reference's
    MUTATED = "mutated"          # it changes its inputs
    KEPT = "kept"                # it keeps something between calls
    ALIASED = "aliased"          # its output lies in the memory of an input
    CLOCK = "clock"              # it says that it takes less time than it does
    DECOY = "decoy"              # its kernels do not do the work
    TIMED_OUT = "timed_out"
    MEMORY = "memory"            # it took too much
    CRASHED = "crashed"          # its process ended


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of a call, over several; empty statistics are not told.

    Attributes:
      median_ms, least_ms, most_ms, trials: of the candidate.
      eager_ms, compiled_ms: medians of the reference under torch, and under torch.compile; None: not
        measured.
      missing: why one of the two was not measured; empty: both were.
    """
    median_ms: float
    least_ms: float
    most_ms: float
    trials: int
    eager_ms: float | None
    compiled_ms: float | None
    missing: str = ""

    @property
    def speedup(self) -> float | None:
        """Over the faster of the reference's two; None where neither was measured."""
        measured = [each for each in (self.eager_ms, self.compiled_ms) if each is not None]
        return min(measured) / self.median_ms if measured else None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Attributes:
      basis: what it rests on.
      compiled: its kernels begin to run: under the interpreter and, where there is a compiler, as programs
        for the GPU.
      correct: all trials gave what the reference gives.
      fault: what is wrong; None where it is correct.
      message: the same in words, for who wrote the candidate.
      trials: that it passed.
      target: the GPU that its kernels were compiled for, such as "sm_90"; empty: for none.
      timing: how long it takes; None: not timed.
      quarantined: its speed-up is beyond belief, and counts for nothing until somebody has looked.
    """
    basis: Basis
    compiled: bool = False
    correct: bool = False
    fault: Fault | None = None
    message: str = ""
    trials: int = 0
    target: str = ""
    timing: Timing | None = None
    quarantined: bool = False

    @property
    def speedup(self) -> float | None:
        """Over the reference; None where one of the two was not timed."""
        return self.timing.speedup if self.timing else None
