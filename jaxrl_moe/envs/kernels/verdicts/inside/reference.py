"""Runs a problem's reference: makes inputs from a seed, and what comes of them. Runs in a sandbox of its
own, which no candidate is in; needs torch."""
import pathlib
import traceback
from typing import Any, BinaryIO

import fit
import frames
import problem
import torch
import values
from steps import Said, Steps

MOST = 2**31


class Reference:
    """A problem at some sizes."""

    def __init__(self, device: str):
        self._device = device
        self._steps = Steps(device)

    def begin(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Runs its file, and makes its module; answers with what the module is made from."""
        self._module = problem.load(head["source"], "problem", head["sizes"])
        torch.manual_seed(head["seed"])
        arguments = list(self._module.get_init_inputs())
        self._model = problem.model(self._module, "Model", head["seed"], arguments, self._device)
        self._compiled = None
        sent: list[bytes] = []
        return {"arguments": values.told(arguments, sent)}, sent

    def fit(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Sizes that an interpreter can take, see fit.py."""
        return {"sizes": fit.sizes(head["source"], head["seed"], head["elements"])}, []

    def trial(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Inputs, and the output for them."""
        inputs = problem.inputs(self._module, head["seed"])
        sent: list[bytes] = []
        told = values.told(inputs, sent)
        on_device = [each.to(self._device) if isinstance(each, torch.Tensor) else each for each in inputs]
        with torch.no_grad():
            output = self._model(*on_device)
        count = len(sent)
        return {"inputs": told, "input_parts": count, "output": values.told(output, sent),
                "aliases": bool(values.storages(output) & values.storages(on_device))}, sent

    def place(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Before a call that is timed."""
        return self._steps.place(parts, head["inputs"])

    def go(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """Calls it as it is, or compiled by torch."""
        if head["compiled"] and self._compiled is None:
            self._compiled = torch.compile(self._model)
        return self._steps.go(self._compiled if head["compiled"] else self._model, head["calls"])

    def tell(self, head: dict[str, Any], parts: list[bytes]) -> Said:
        """What came of it."""
        return self._steps.tell()


def serve(reading: BinaryIO, writing: BinaryIO, folder: pathlib.Path, device: str) -> None:
    """Answers messages until one says that it is the last."""
    reference = Reference(device)
    calls = {name: getattr(reference, name) for name in ("begin", "fit", "trial", "place", "go", "tell")}
    while (message := frames.read(reading, MOST)) and message[0]["call"] != "end":
        head, parts = message
        try:
            answer = calls[head["call"]](head, parts)
        except Exception as error:
            answer = {"error": "".join(traceback.format_exception_only(error))}, []
        frames.write(writing, *answer)


def warm(device: str) -> None:
    """What is expected is of full precision."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
