"""What a compiled program takes of a device, from the compiler's own account."""
from typing import Any, NamedTuple

from jaxrl_moe.planning import target
from jaxrl_moe.planning.buffers import temporaries
from jaxrl_moe.planning.hlo import collective_bytes


class Program(NamedTuple):
    """What a compiled program takes of one device, in bytes.

    Attributes:
      arguments: arrays that it is given.
      results: arrays that it returns in memory of their own, not in that of donated arguments.
      temporary: its temporaries as compiled.
      elsewhere: compiled for a GPU, the same; on a CPU at most what is left of them on a backend that
        computes in bfloat16, see planning/buffers.py.
      collectives: {kind: bytes} that its collectives move.
      text: compiled for a GPU, the program itself, see planning/kernels.
    """
    arguments: int
    results: int
    temporary: int
    elsewhere: int
    collectives: dict[str, int]
    text: str = ""

    @property
    def extra(self) -> int:
        """What it needs beside its arguments, as compiled."""
        return self.results + self.temporary


NOTHING = Program(0, 0, 0, 0, {})  # a program that does not run on these devices


def compiled(lowered: Any, platform: str) -> Program:
    """Compiles what jax.jit(...).lower gave for devices of a platform."""
    on_gpu = platform == "gpu"
    done = lowered.compile(target.OPTIONS if on_gpu else None)
    text = done.as_text()
    stats = done.memory_analysis()
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    temporary = (stats.temp_size_in_bytes,) * 2 if on_gpu else temporaries(lowered, done)
    return Program(stats.argument_size_in_bytes, results, *temporary, collective_bytes(text),
                   text if on_gpu else "")
