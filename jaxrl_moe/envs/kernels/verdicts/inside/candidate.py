"""Runs a candidate on arrays that it is sent, under Triton's interpreter or on a GPU. Runs in the sandbox; needs
torch and triton. It never learns where the arrays come from, nor what is expected."""
import importlib.util
import pathlib
import sys
import traceback
from typing import Any, BinaryIO

import frames
import torch
import triton
import triton.language as tl
import values
from launches import Launcher, Watch

MOST = 2**31  # bytes of a message
LAUNCHER = Launcher()


class Candidate:
    """What a policy wrote, in a file of this sandbox's own."""

    def __init__(self, folder: pathlib.Path, device: str, launcher: Launcher):
        self._folder = folder
        self._device = device
        self._launcher = launcher
        self._module: Any = None
        self._model: torch.nn.Module | None = None
        self.launches: list[dict[str, Any]] = []  # of the last call, one that failed too

    def begin(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Imports the file."""
        path = self._folder / "candidate.py"
        path.write_text(head["source"])
        spec = importlib.util.spec_from_file_location("candidate", path)
        self._module = importlib.util.module_from_spec(spec)
        sys.modules["candidate"] = self._module
        spec.loader.exec_module(self._module)
        self._entry = getattr(self._module, head["entry"])
        return {}, []

    def model(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Makes its module, with weights that follow from the seed."""
        arguments = values.made(head["arguments"], parts, "cpu")
        torch.manual_seed(head["seed"])
        self._model = self._entry(*arguments).to(self._device).eval()
        return {}, []

    def run(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Calls it once, on fresh memory; `kernels` false: with launches that do nothing."""
        inputs = values.made(head["inputs"], parts, self._device)
        before = [each.clone() if isinstance(each, torch.Tensor) else each for each in inputs]
        self._launcher.runs = head["kernels"]
        self._launcher.watch = watch = Watch()
        try:
            with torch.no_grad(), watch:
                output = self._model(*inputs)
        finally:
            self._launcher.watch = None
            self.launches = list(watch.launches.values())
        sent: list[bytes] = []
        told = values.told(output, sent)
        return {"output": told, "mutated": not _same(before, inputs), "aliases": bool(values.storages(output) & values.storages(inputs)),
                "computed": sorted(watch.computed), "launches": self.launches}, sent


def _same(before: list[Any], after: list[Any]) -> bool:
    """Bit for bit, NaN included."""
    return all(not isinstance(one, torch.Tensor) or one.shape == other.shape
               and torch.equal(one.contiguous().flatten().view(torch.uint8),
                               other.contiguous().flatten().view(torch.uint8))
               for one, other in zip(before, after, strict=True))


def serve(reading: BinaryIO, writing: BinaryIO, folder: pathlib.Path, device: str) -> None:
    """Answers messages until one says that it is the last."""
    candidate = Candidate(folder, device, LAUNCHER)
    calls = {"begin": candidate.begin, "model": candidate.model, "run": candidate.run}
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
           if each.filename.endswith("candidate.py") and each.name != "exec_module"]
    inner = error.__cause__
    return "".join([*(f"{own[-1]}: " if own else ""), *lines,
                    *(f"from {type(inner).__name__}: {inner}" if inner else "")])


def warm() -> None:
    """Has what is imported late imported now."""
    with Watch():
        torch.empty(1).add(1)
    compile_nothing()


@triton.jit
def _nothing(pointer):
    tl.store(pointer, 0.0)


def compile_nothing() -> None:
    """Runs a kernel."""
    _nothing[(1,)](torch.empty(1))
