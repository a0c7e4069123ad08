"""Judges a candidate: fresh inputs from the reference's sandbox, the candidate's output from its own,
compared here."""
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.checks import check_call, expect, is_right, launches_of_answer, sound
from jaxrl_moe.envs.kernels.verdicts.inductor import plain
from jaxrl_moe.envs.kernels.verdicts.static import ENTRY, refusals
from jaxrl_moe.envs.kernels.verdicts.timing import ClockError, FailedError, Milliseconds, timed
from jaxrl_moe.envs.kernels.verdicts.trial import FoundError, Judged, Trial
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.envs.kernels.verdicts.warmed import Answer, GoneError, Warmed
from jaxrl_moe.sandbox.life import SandboxError
from jaxrl_moe.sandbox.records import Cause
from jaxrl_moe.types import UserError

MOST_BYTES = 2**28   # of the arrays of one call
MOST_ELEMENTS = 2**14  # of inputs, weights and output, where an interpreter runs them
_TIMED_AT: Mapping[str, int] = {}  # the file's own sizes, which are those that a GPU is to be fast at
_IDLE = 3  # calls without kernels, all of which must be right to be told
MOST_LAUNCHES = 64   # kinds of launches, all of which are compiled
_FAULTS = {Cause.TIME: Fault.TIMED_OUT, Cause.CPU: Fault.TIMED_OUT, Cause.MEMORY: Fault.MEMORY,
           Cause.PROCESSES: Fault.MEMORY}


class Evaluator:
    """One thread uses it at a time.

    Args:
      reference, candidate: the processes that run either, both on one device: a GPU, or under Triton's
        interpreter.
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
        self._basis = Basis.INTERPRETER if candidate.device == "cpu" else Basis.DEVICE

    def verdict(self, problem: Judged, source: str, seed: int) -> Verdict:
        """What is said of a candidate's source; of one in Inductor's form, of what it is in plain Triton.

        Args:
          seed: of weights, and with both sources of inputs.

        Raises:
          UserError: the problem's own file cannot be run.
          SandboxError, OSError: the processes cannot be started, or the reference's is lost.
        """
        source = plain(source)
        wrong = refusals(source)
        if wrong:
            return Verdict(Basis.SOURCE, fault=Fault.REFUSED, message="\n".join(wrong))
        trial = Trial(problem, source, seed)
        with self._reference.use(10 * self._seconds) as reference:
            try:
                with self._candidate.use(self._seconds) as candidate:
                    self._run(trial, reference, candidate)
            except GoneError as gone:
                trial.found = FoundError(_FAULTS.get(gone.cause, Fault.CRASHED), f"It gave no answer: "
                                         f"{gone}.")
        return self._concluded(trial)

    def baseline(self, problem: Judged, seed: int, compiled: bool, calls: int) -> Milliseconds:
        """How long the problem's own module takes, at the sizes that a candidate is timed at.

        Args:
          compiled: by torch.compile.

        Raises:
          UserError: the problem's own file cannot be run, or not be compiled.
          GoneError: it took too long, or too much.
        """
        trial = Trial(problem, "", seed)
        with self._reference.use(10 * self._seconds) as reference:
            sound(reference.ask("begin", MOST_BYTES, source=problem.source, sizes=_TIMED_AT,
                                seed=seed))
            try:
                return timed(reference, lambda number: self._drawn(reference, trial.seeds(number)),
                             lambda made, answer: None, calls, compiled=compiled)
            except (FailedError, ClockError) as error:
                raise UserError(f"The problem's own file cannot be timed: {error}") from error

    def close(self) -> None:
        """Ends its processes."""
        for each in (self._reference, self._candidate, self._compiler):
            if each is not None:
                each.close()

    def _run(self, trial: Trial, reference: Warmed, candidate: Warmed) -> None:
        """All trials, to the first that fails."""
        try:
            self._try(trial, reference, candidate)
            if trial.problem.timed:
                self._time(trial, reference, candidate)
        except FoundError as found:  # here, so that the processes may go on
            trial.found = found

    def _try(self, trial: Trial, reference: Warmed, candidate: Warmed) -> None:
        expect(candidate.ask("begin", 0, source=trial.source, entry=ENTRY), trial)
        shapes = self._shapes(trial.problem, reference, trial.seed)
        trials = max(trial.problem.trials, len(shapes))
        sizes: dict[int, int] = {}  # bytes of the output, by shape
        for number in range(trials):
            if number < len(shapes):  # afterwards the last shape again
                self._make(trial, reference, candidate, shapes[number])
            made = self._drawn(reference, trial.seeds(number))
            check_call(trial, made, self._called(trial, candidate, made, again=number % 2 == 1))
            trial.passed += 1
            sizes.setdefault(number, sum(map(len, made.parts[made.head["input_parts"]:])))
        largest = max(range(len(shapes)), key=sizes.__getitem__)
        if largest < len(shapes) - 1:  # else it is there already
            self._make(trial, reference, candidate, shapes[largest])
        if all(self._right_without(trial, reference, candidate, trials + number) for number in range(_IDLE)):
            raise FoundError(Fault.DECOY, "The output is right even where no kernel runs: the kernels must "
                                          "do the work.")

    def _right_without(self, trial: Trial, reference: Warmed, candidate: Warmed, number: int) -> bool:
        """Whether the output is right where launches do nothing, which by chance may happen once: the right
        one may be 0, as fresh memory may."""
        made = self._drawn(reference, trial.seeds(number))
        idle = self._called(trial, candidate, made, kernels=False)
        return is_right(made, idle)

    def _shapes(self, problem: Judged, reference: Warmed, seed: int) -> Sequence[Mapping[str, int]]:
        """The problem's; on a GPU its file's own too; where it names none, such as an interpreter can
        take."""
        if self._basis == Basis.DEVICE:
            return [*problem.sizes, {}]
        if problem.sizes:
            return problem.sizes
        fitting = _of_reference(reference, "fit", 0, source=problem.source, seed=seed, elements=MOST_ELEMENTS)
        return fitting.head["sizes"]

    def _time(self, trial: Trial, reference: Warmed, candidate: Warmed) -> None:
        """After it was right: with fresh inputs for each call, and each output compared."""
        self._make(trial, reference, candidate, _TIMED_AT)
        first = trial.passed + _IDLE
        try:
            trial.taken = timed(candidate, lambda number: self._drawn(reference, trial.seeds(first + number)),
                                lambda made, answer: check_call(trial, made, answer), trial.problem.timed)
        except ClockError as error:
            raise FoundError(Fault.CLOCK, f"Its time is not believed: {error}.") from error
        except FailedError as error:
            raise FoundError(Fault.RAISED, str(error)) from error

    def _make(self, trial: Trial, reference: Warmed, candidate: Warmed, sizes: Mapping[str, int]) -> None:
        begun = _of_reference(reference, "begin", MOST_BYTES, source=trial.problem.source, sizes=dict(sizes),
                              seed=trial.seed)
        expect(candidate.ask("model", 0, begun.parts, arguments=begun.head["arguments"], seed=trial.seed),
                trial)

    def _drawn(self, reference: Warmed, seed: int) -> Answer:
        return _of_reference(reference, "trial", MOST_BYTES, seed=seed)

    def _called(self, trial: Trial, candidate: Warmed, made: Answer, again: bool = False,
                kernels: bool = True) -> Answer:
        sent = made.parts[:made.head["input_parts"]]
        most = 2 * sum(map(len, made.parts)) + 2**16
        answer = candidate.ask("run", most, sent, inputs=made.head["inputs"], again=again, kernels=kernels)
        trial.launches |= launches_of_answer(answer)
        expect(answer, trial)
        return answer

    def _concluded(self, trial: Trial) -> Verdict:
        """The verdict; its kernels are compiled for the GPU, whatever came of them."""
        target, error = self._compiled(trial)
        found = error or trial.found
        compiled = bool(trial.launches) and error is None
        taken = trial.taken
        timing = taken and Timing(taken.median, taken.least, taken.most, taken.calls, None, None)
        return Verdict(self._basis, compiled=compiled, correct=found is None and compiled,
                       fault=found and found.fault, message=str(found or ""), trials=trial.passed,
                       target=target, timing=timing)

    def _compiled(self, trial: Trial) -> tuple[str, FoundError | None]:
        """(the GPU that all launches were compiled for, the first error)."""
        if self._compiler is None or not trial.launches:
            return "", None
        target = f"sm_{self._capability}"
        if len(trial.launches) > MOST_LAUNCHES:
            return target, FoundError(Fault.NOT_COMPILED, f"It has {len(trial.launches)} kinds of launches, "
                                      f"by kernel, types and constants; {MOST_LAUNCHES} are the most.")
        try:
            with self._compiler.use(self._seconds) as compiler:
                begun = compiler.ask("begin", 0, source=trial.source)
                for launch in trial.launches.values() if "error" not in begun.head else []:
                    said = compiler.ask("compile", 0, launch=launch, capability=self._capability)
                    if "error" in said.head:
                        error = f"{launch['kernel']} does not compile for {target}: {said.head['error']}"
                        return target, FoundError(Fault.NOT_COMPILED, error)
        except GoneError as gone:  # how long it takes rests on the machine, and is told as what it is
            fault = _FAULTS.get(gone.cause, Fault.NOT_COMPILED)
            return target, FoundError(fault, f"It does not compile for {target}: {gone}.")
        error = begun.head.get("error", "")
        return target, FoundError(Fault.NOT_COMPILED, error) if error else None


def _of_reference(reference: Warmed, call: str, most: int, **said: Any) -> Answer:
    """What the reference's process answers; that it gives no answer is no fault of the candidate's."""
    try:
        answer = reference.ask(call, most, **said)
    except GoneError as gone:
        if gone.cause in _FAULTS or gone.code not in (None, -signal.SIGKILL):
            raise UserError(f"The problem's own file cannot be run: {gone}.") from gone
        raise SandboxError(f"The reference's process is lost: {gone}") from gone
    sound(answer)
    return answer
