"""A module that is called in steps, so that the call alone is timed, from without too. Runs in the sandbox;
needs torch."""
from collections.abc import Callable
from typing import Any

import torch
import values
from clock import Clock

Said = tuple[dict[str, Any], list[bytes]]


class Steps:
    """place, go and tell, one after the other."""

    def __init__(self, device: str):
        self._device = device
        self._clock: Clock | None = None

    def place(self, parts: list[bytes], inputs: Any) -> Said:
        """Brings inputs to the device."""
        self._clock = self._clock or Clock(self._device)
        self._inputs = values.made(inputs, parts, self._device)
        return {}, []

    def go(self, function: Callable[..., Any], calls: int) -> Said:
        """Calls it so often; answers with milliseconds of all of it, at once."""
        with torch.no_grad():
            milliseconds, self._output = self._clock.time(lambda: function(*self._inputs), calls)
        return {"ms": milliseconds}, []

    def tell(self) -> Said:
        """Answers as of a call that was not timed."""
        return values.call_told(self._inputs, self._output)
