"""Runs a problem's reference: makes inputs from a seed, and what comes of them. Runs in a sandbox of its
own, which no candidate is in; needs torch."""
import pathlib
import traceback
from typing import Any, BinaryIO

import frames
import problem
import torch
import values

MOST = 2**31


class Reference:
    """A problem at some sizes."""

    def __init__(self, device: str):
        self._device = device

    def begin(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Runs its file, and makes its module; answers with what the module is made from."""
        self._module = problem.load(head["source"], "problem", head["sizes"])
        torch.manual_seed(head["seed"])
        arguments = list(self._module.get_init_inputs())
        self._model = problem.model(self._module, "Model", head["seed"], arguments, self._device)
        sent: list[bytes] = []
        return {"arguments": values.told(arguments, sent)}, sent

    def trial(self, head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
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


def serve(reading: BinaryIO, writing: BinaryIO, folder: pathlib.Path, device: str) -> None:
    """Answers messages until one says that it is the last."""
    reference = Reference(device)
    calls = {"begin": reference.begin, "trial": reference.trial}
    while (message := frames.read(reading, MOST)) and message[0]["call"] != "end":
        head, parts = message
        try:
            answer = calls[head["call"]](head, parts)
        except Exception as error:
            answer = {"error": "".join(traceback.format_exception_only(error))}, []
        frames.write(writing, *answer)


def warm(device: str) -> None:
    """Nothing more is imported late."""
