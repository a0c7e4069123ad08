"""Kernels of the reduced grammar as a task."""
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.kernels.choices.grammar import SLOTS, ChoiceError, chosen, source
from jaxrl_moe.envs.kernels.choices.rows import AGAIN, FEEDBACK_CHARS
from jaxrl_moe.envs.kernels.episode import NoCodeError
from jaxrl_moe.envs.kernels.task import TritonKernels

_FORM = " ".join(f"{slot}={'|'.join(options)}" for slot, options in SLOTS.items())


@dataclasses.dataclass
class TritonChoices(TritonKernels):
    """As triton_kernels, with answers that choose what a template is filled with, as "map=abs fold=max ...":
    the whole source is made of them and judged as any other. For models that learn in minutes."""
    feedback_chars: int = FEEDBACK_CHARS
    again: ClassVar[str] = AGAIN

    def instructions(self, row: Mapping[str, Any]) -> str:
        """What can be chosen; the same for every row."""
        return f"Choose what a Triton kernel that reduces each row of a matrix is made of, as: {_FORM}"

    def source_of(self, text: str) -> str:
        """The source that an answer makes; raises NoCodeError where it makes none."""
        try:
            return source(chosen(text))
        except ChoiceError as error:
            raise NoCodeError(str(error)) from error
