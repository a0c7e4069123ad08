"""Judges a candidate: fresh inputs from the reference's sandbox, the candidate's output from its own,
compared here."""
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.compare import MalformedError, difference
from jaxrl_moe.envs.kernels.verdicts.static import ENTRY, refusals
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.envs.kernels.verdicts.warmed import Answer, GoneError, Warmed
from jaxrl_moe.sandbox.records import Cause
from jaxrl_moe.types import UserError

MOST_BYTES = 2**28   # of the arrays of one call
MOST_LAUNCHES = 32   # kinds of launches that are compiled
_FAULTS = {Cause.TIME: Fault.TIMED_OUT, Cause.CPU: Fault.TIMED_OUT, Cause.MEMORY: Fault.MEMORY,
           Cause.PROCESSES: Fault.MEMORY}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A problem as it is judged.

    Attributes:
      source: of the file with Model, get_inputs and get_init_inputs.
      sizes: values of its module-level integers, a mapping for each shape that is tried; empty: the file's
        own.
      trials: fresh inputs that a candidate must be right for, all of them; at least one for each of the
        sizes.
      torch_operators: whether forward may compute by torch's own operators too; its kernels must do their
        part.
    """
    source: str
    sizes: Sequence[Mapping[str, int]] = ()
    trials: int = 5
    torch_operators: bool = False


class _Found(Exception):
    """The verdict is known before all is tried."""

    def __init__(self, fault: Fault, message: str):
        super().__init__(message)
        self.fault = fault


class Evaluator:
    """One thread uses it at a time.

    Args:
      reference, candidate: the processes that run either.
      compiler: that compiles for a GPU; None: nothing is compiled.
      capability: of that GPU, as 90.
      seconds: that a candidate may take in all.
    """

    def __init__(self, reference: Warmed, candidate: Warmed, compiler: Warmed | None, capability: int = 90,
                 seconds: float = 60.0):
        self._reference = reference
        self._candidate = candidate
        self._compiler = compiler
        self._capability = capability
        self._seconds = seconds

    def verdict(self, problem: Judged, source: str, seed: int) -> Verdict:
        """What is said of a candidate's source.

        Args:
          seed: of weights, and with both sources of inputs.

        Raises:
          UserError: the problem's own file cannot be run.
          SandboxError, OSError: the processes cannot be started.
        """
        wrong = refusals(source)
        if wrong:
            return Verdict(Basis.SOURCE, fault=Fault.REFUSED, message="\n".join(wrong))
        trial = _Trial(problem, source, seed)
        with self._reference.use(10 * self._seconds) as reference:
            try:
                with self._candidate.use(self._seconds) as candidate:
                    self._run(trial, reference, candidate)
            except GoneError as gone:
                trial.found = _Found(_FAULTS.get(gone.cause, Fault.CRASHED), f"It gave no answer: {gone}.")
        return self._concluded(trial)

    def close(self) -> None:
        """Ends its processes."""
        for each in (self._reference, self._candidate, self._compiler):
            if each is not None:
                each.close()

    def _run(self, trial: "_Trial", reference: Warmed, candidate: Warmed) -> None:
        """All trials, to the first that fails."""
        try:
            self._try(trial, reference, candidate)
        except _Found as found:  # here, so that the processes may go on
            trial.found = found

    def _try(self, trial: "_Trial", reference: Warmed, candidate: Warmed) -> None:
        _expect(candidate.ask("begin", 0, source=trial.source, entry=ENTRY), trial)
        shapes = trial.problem.sizes or [{}]
        trials = max(trial.problem.trials, len(shapes))
        for number in range(trials):
            if number < len(shapes):  # afterwards the last shape again
                self._make(trial, reference, candidate, shapes[number])
            made = self._drawn(reference, trial.seeds(number))
            _check(trial, made, self._called(trial, candidate, made, again=number % 2 == 1))
            trial.passed += 1
        made = self._drawn(reference, trial.seeds(trials))
        idle = self._called(trial, candidate, made, kernels=False)
        if difference(made.head["output"], made.parts, idle.head["output"], idle.parts) is None:
            raise _Found(Fault.DECOY, "The output is right even where no kernel runs: the kernels must do "
                         "the work.")

    def _make(self, trial: "_Trial", reference: Warmed, candidate: Warmed, sizes: Mapping[str, int]) -> None:
        begun = reference.ask("begin", MOST_BYTES, source=trial.problem.source, sizes=dict(sizes),
                              seed=trial.seed)
        _sound(begun)
        _expect(candidate.ask("model", 0, begun.parts, arguments=begun.head["arguments"], seed=trial.seed),
                trial)

    def _drawn(self, reference: Warmed, seed: int) -> Answer:
        made = reference.ask("trial", MOST_BYTES, seed=seed)
        _sound(made)
        return made

    def _called(self, trial: "_Trial", candidate: Warmed, made: Answer, again: bool = False,
                kernels: bool = True) -> Answer:
        sent = made.parts[:made.head["input_parts"]]
        most = 2 * sum(map(len, made.parts)) + 2**16
        answer = candidate.ask("run", most, sent, inputs=made.head["inputs"], again=again, kernels=kernels)
        trial.launches |= {repr(each): each for each in answer.head.get("launches", [])}
        _expect(answer, trial)
        return answer

    def _concluded(self, trial: "_Trial") -> Verdict:
        """The verdict; its kernels are compiled for the GPU, whatever came of them."""
        target, error = self._compiled(trial)
        found = _Found(Fault.NOT_COMPILED, error) if error else trial.found
        compiled = bool(trial.launches) and not error
        return Verdict(Basis.INTERPRETER, compiled=compiled, correct=found is None and compiled,
                       fault=found and found.fault, message=str(found or ""), trials=trial.passed,
                       target=target)

    def _compiled(self, trial: "_Trial") -> tuple[str, str]:
        """(the GPU that all launches were compiled for, the first error)."""
        if self._compiler is None or not trial.launches:
            return "", ""
        target = f"sm_{self._capability}"
        try:
            with self._compiler.use(10 * self._seconds) as compiler:
                begun = compiler.ask("begin", 0, source=trial.source)
                for launch in [*trial.launches.values()][:MOST_LAUNCHES] if "error" not in begun.head else []:
                    said = compiler.ask("compile", 0, launch=launch, capability=self._capability)
                    if "error" in said.head:
                        error = said.head["error"]
                        return target, f"{launch['kernel']} does not compile for {target}: {error}"
        except GoneError as gone:
            return target, f"It does not compile for {target}: {gone}."
        return target, begun.head.get("error", "")


class _Trial:
    """What is known of a candidate so far."""

    def __init__(self, problem: Judged, source: str, seed: int):
        self.problem = problem
        self.source = source
        self.seed = seed
        self.passed = 0
        self.launches: dict[str, Any] = {}
        self.found: _Found | None = None
        self._draws = hashlib.sha256(f"{seed}\0{problem.source}\0{source}".encode()).digest()

    def seeds(self, number: int) -> int:
        """Of a trial's inputs: no candidate can be written for them."""
        return int.from_bytes(hashlib.sha256(self._draws + bytes([number])).digest()[:7], "big")


def _expect(answer: Answer, trial: _Trial) -> None:
    if "error" in answer.head:
        raise _Found(Fault.RAISED, str(answer.head["error"]))


def _sound(answer: Answer) -> None:
    if "error" in answer.head:
        raise UserError(f"The problem's own file fails: {answer.head['error']}")


def _check(trial: _Trial, made: Answer, answer: Answer) -> None:
    """Raises _Found where a call is not what it should be."""
    head = answer.head
    if head.get("computed") and not trial.problem.torch_operators:
        names = ", ".join(head["computed"])
        raise _Found(Fault.DECOY, f"forward computes by torch's own operators: {names}. A "
                     "kernel must do that.")
    try:
        differs = difference(made.head["output"], made.parts, head.get("output"), answer.parts)
    except MalformedError as error:
        raise _Found(Fault.CRASHED, f"Its process told of {error}.") from error
    if differs is not None:
        raise _Found(Fault.MISMATCH, differs.text)
    count = made.head["input_parts"]
    if head.get("inputs") != made.head["inputs"] or answer.parts[:count] != made.parts[:count]:
        raise _Found(Fault.MUTATED, "forward changes its inputs: write to memory of its own.")
    if head.get("kept"):
        raise _Found(Fault.KEPT, "forward keeps something for later calls, in a parameter, a buffer, an attribute "
                     "or the module: compute it anew.")
    if head.get("aliases") and not made.head.get("aliases"):
        raise _Found(Fault.ALIASED, "The output lies in the memory of an input: write to memory of its own.")
