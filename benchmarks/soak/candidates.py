"""What an evaluation server is asked: one problem of ours, and candidates of all kinds for it."""
import dataclasses
import pathlib

from benchmarks import table
from jaxrl_moe.envs.kernels.verdicts.trial import Judged

PROBLEMS = pathlib.Path(table.ROOT) / "jaxrl_moe" / "envs" / "kernels" / "problems"
PROBLEM = Judged((PROBLEMS / "level1/001_relu.py").read_text(), ({"ROWS": 3, "COLUMNS": 1025},
                                                                 {"ROWS": 5, "COLUMNS": 70}))
RIGHT = (PROBLEMS / "solutions/level1/001_relu.py").read_text()
_FORWARD = "        x = x.contiguous()\n"
_KERNEL = "    inside = offsets < size\n"


@dataclasses.dataclass(frozen=True)
class Kind:
    """what: it does, in words; verdicts: that it may get: faults, "none", or "problem refused"; share: how
    many of all candidates it is of, relative to the others."""
    name: str
    what: str
    share: int
    source: str
    verdicts: tuple[str, ...]
    problem: Judged = PROBLEM


def _in_forward(*lines: str) -> str:
    return RIGHT.replace(_FORWARD, _FORWARD + "".join(f"        {line}\n" for line in lines))


def _in_kernel(*lines: str) -> str:
    return RIGHT.replace(_KERNEL, "".join(f"    {line}\n" for line in lines) + _KERNEL)


def _hostile(*lines: str) -> Judged:
    return Judged("\n".join([*lines, ""]))


KINDS = (
    Kind("right", "right", 60, RIGHT, ("none",)),
    Kind("wrong", "wrong values", 30, RIGHT.replace("x < 0.0, 0.0", "x < 0.0, 1.0"), ("mismatch",)),
    Kind("raises", "raises", 20, _in_forward("raise ValueError('no')"), ("raised",)),
    Kind("recursion", "calls itself", 8, _in_forward("return self.forward(x)"), ("raised",)),
    Kind("decoy", "computes by torch", 8, RIGHT.replace("return out", "return torch.relu(x)"), ("decoy",)),
    Kind("prints", "prints what looks like a verdict", 8, _in_forward("print('{\"ended\": 0}')"), ("none",)),
    Kind("loop", "loops without end", 5, _in_forward("n = 1", "while n:", "    n = n % 7 + 1"),
         ("timed_out",)),
    Kind("kernel_loop", "loops in its kernel", 3, _in_kernel("n = 1", "while n > 0:", "    n = n % 7 + 1"),
         ("timed_out",)),
    Kind("memory", "takes memory without end", 8, _in_forward("taken = []", "while True:",
                                                              "    taken.append(torch.ones(2 ** 24))"),
         ("memory",)),
    Kind("huge", "asks for terabytes at once", 6, _in_forward("y = torch.ones(2 ** 40)"), ("raised",)),
    Kind("far", "stores far out of bounds", 8,
         RIGHT.replace("out_ptr + offsets,", "out_ptr + offsets + 1000000000000,"), ("crashed",)),
    Kind("exit", "ends its process", 8, _in_forward("raise SystemExit(0)"), ("crashed",)),
    Kind("fork", "would fork without end", 10, "import os\n" + _in_forward("while True:", "    os.fork()"),
         ("refused",)),
    Kind("files", "would read files", 8, _in_forward("open('/etc/shadow')"), ("refused",)),
    Kind("syntax", "is no Python", 5, RIGHT.replace("class ModelNew", "class ModelNew ModelNew"),
         ("refused",)),
    Kind("fork_bomb", "right, of a problem whose file forks without end", 3, RIGHT, ("problem refused",),
         _hostile("import os", "while True:", "    os.fork()")),
    Kind("broken", "right, of a problem whose file raises", 3, RIGHT, ("problem refused",),
         _hostile("1 / 0")),
)
