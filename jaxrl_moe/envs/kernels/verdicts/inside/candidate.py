"""Runs a candidate on arrays that it is sent, under Triton's interpreter or on a GPU. Runs in the sandbox;
needs torch and triton. It never learns where the arrays come from, nor what is expected."""
import contextlib
import pathlib
import traceback
from typing import Any, BinaryIO

import bfloat16
import frames
import libdevice
import source
import torch
import triton
import triton.language as tl
import values
from launches import Launcher, Taken, Watch, poisoned
from pretended import Pretended, pretend
from state import snapshot
from steps import Said, Steps

MOST = 2**31  # bytes of a message


class Candidate:
    """What a policy wrote, in a file of this sandbox's own."""

    def __init__(self, folder: pathlib.Path, device: str, launcher: Launcher):
        self._folder = folder
        self._device = device
        self._launcher = launcher
        self._inputs: list[Any] = []
        self._steps = Steps(device)
        self.launches: list[dict[str, Any]] = []  # of the last call, one that failed too

    def begin(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Imports the file."""
        with _pretended(self._device):
            self._module = source.imported(head["source"], self._folder)
        self._entry = getattr(self._module, head["entry"])
        return {}, []

    def model(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Makes its module, with weights that follow from the seed."""
        arguments = values.made(head["arguments"], parts, "cpu")
        torch.manual_seed(head["seed"])
        with _pretended(self._device):
            model = self._entry(*arguments)
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"{head['entry']} makes a {type(model).__name__}, which is no torch.nn.Module")
        # By torch's own methods, whatever the class has in their place.
        torch.nn.Module.to(model, self._device)
        self._model = torch.nn.Module.eval(model)
        return {}, []

    def run(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Calls it once: on fresh memory, or where the inputs of the last call lay (`again`); `kernels`
        false: with launches that do nothing. Answers with the inputs, as they are afterwards, and the
        output."""
        self._inputs = self._placed(values.made(head["inputs"], parts, self._device), head["again"])
        before = snapshot(self._model, self._module)
        output, watch = self._called(head["kernels"])
        told, sent = values.call_told(self._inputs, output)
        return {**told, "kept": before != snapshot(self._model, self._module),
                "computed": sorted(watch.computed), "launches": self.launches}, sent

    def place(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Before a call that is timed."""
        return self._steps.place(parts, head["inputs"])

    def go(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Calls it as it is, with nothing that looks on."""
        self._launcher.runs = True
        with _pretended(self._device):
            return self._steps.go(lambda *inputs: torch.nn.Module.__call__(self._model, *inputs),
                                  head["calls"])

    def tell(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """What came of it."""
        return self._steps.tell()

    def _called(self, kernels: bool) -> tuple[Any, Watch]:
        self._launcher.runs = kernels
        self._launcher.call += 1
        self._launcher.watch = watch = Watch()
        try:
            with torch.no_grad(), watch, Taken(watch), _pretended(self._device):
                return torch.nn.Module.__call__(self._model, *self._inputs), watch
        finally:
            self._launcher.watch = None
            self.launches = list(watch.launches.values())

    def _placed(self, inputs: list[Any], again: bool) -> list[Any]:
        """The inputs; `again`: their values where the last ones lie, so that who keeps outputs by address
        is found out."""
        alike = again and len(self._inputs) == len(inputs) and all(map(_alike, self._inputs, inputs))
        return [_moved(old, new) for old, new in zip(self._inputs, inputs)] if alike else inputs


def _alike(old: Any, new: Any) -> bool:
    return (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and old.shape == new.shape
            and old.dtype == new.dtype and old.is_contiguous() or type(old) is type(new) is not torch.Tensor)


def _moved(old: Any, new: Any) -> Any:
    return old.copy_(new) if isinstance(new, torch.Tensor) else new


def _pretended(device: str) -> contextlib.AbstractContextManager[Any]:
    return Pretended() if device == "cpu" else contextlib.nullcontext()


def serve(reading: BinaryIO, writing: BinaryIO, folder: pathlib.Path, device: str) -> None:
    """Answers messages until one says that it is the last."""
    candidate = Candidate(folder, device, Launcher(device))
    calls = {name: getattr(candidate, name) for name in ("begin", "model", "run", "place", "go", "tell")}
    while (message := frames.read(reading, MOST)) and message[0]["call"] != "end":
        head, parts = message
        try:
            answer = calls[head["call"]](head, parts)
        except Exception as error:
            answer = {"error": _told(error), "launches": candidate.launches}, []
        frames.write(writing, *answer)


def _told(error: Exception) -> str:
    """An error as the policy is told of it: where in its own file, and what."""
    lines = traceback.format_exception_only(error)
    own = [f"line {each.lineno}, in {each.name}" for each in traceback.extract_tb(error.__traceback__)
           if each.filename.endswith("candidate.py") and "/tmp/" in each.filename]
    inner = error.__cause__
    return "".join([*(f"{own[-1]}: " if own else ""), *lines,
                    *(f"from {type(inner).__name__}: {inner}" if inner else "")])


def warm(device: str) -> None:
    """Has what is imported late imported now."""
    if device == "cpu":
        bfloat16.mend()
        libdevice.mend()
        pretend()
        with Watch():
            poisoned(torch.empty(1)).add(1)
        _nothing[(1,)](torch.empty(1))


@triton.jit
def _nothing(pointer):
    tl.store(pointer, 0.0)
