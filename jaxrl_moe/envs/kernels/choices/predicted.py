"""What comes of a choice, by NumPy: the oracle by which pupils learn, and by which the judge is tested."""
import math

import numpy as np

from jaxrl_moe.envs.kernels.choices.grammar import SIZES, Choice, RowProblem
from jaxrl_moe.envs.kernels.verdicts.compare import Difference, difference
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict

_MAPS = {"same": np.positive, "abs": np.abs, "square": np.square, "negative": np.negative, "exp": np.exp}
_FOLDS = {"sum": np.sum, "max": np.max, "min": np.min}
_NOT_POWER = ("rows_kernel does not compile for sm_90: triton.compiler.errors.CompilationError: at 3:12:\n"
              "def rows_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):\n    row = tl.program_id(0)\n"
              "    lanes = tl.arange(0, BLOCK)\n            ^\narange's range must be a power of 2\n")
_NO_EXP = "rows_kernel does not compile for sm_90: ... Expected dtype ['fp32', 'fp64'] but got fp16"
_NO_CDIV = "line 21, in forward: TypeError: cdiv() missing 1 required positional argument: 'y'\n"


def predicted(problem: RowProblem, choice: Choice, rng: np.random.Generator) -> Verdict:
    """The verdict that a judge with a compiler will give, but for the inputs, which are drawn here."""
    if choice["block"] == "cdiv":
        return Verdict(Basis.INTERPRETER, fault=Fault.RAISED, message=_NO_CDIV)
    if choice["block"] == "columns":
        return Verdict(Basis.INTERPRETER, fault=Fault.NOT_COMPILED, message=_NOT_POWER)
    if choice["map"] == "exp" and choice["type"] == "float16":
        return Verdict(Basis.INTERPRETER, fault=Fault.NOT_COMPILED, message=_NO_EXP)
    for trial, sizes in enumerate(SIZES):
        shift_R1 = 3 * rng.standard_normal((sizes["ROWS"], 1))
        x_RC = (rng.standard_normal((sizes["ROWS"], sizes["COLUMNS"])) + shift_R1).astype(np.float32)
        differs = _compared(reference(problem, x_RC), kernel(choice, x_RC))
        if differs is not None:
            return Verdict(Basis.INTERPRETER, compiled=True, fault=Fault.MISMATCH, message=differs.text,
                           trials=trial, target="sm_90")
    return Verdict(Basis.INTERPRETER, compiled=True, correct=True, trials=5, target="sm_90")


def reference(problem: RowProblem, x_RC: np.ndarray) -> np.ndarray:
    """[rows] what is to be computed."""
    return _FOLDS[problem.fold](_MAPS[problem.map](x_RC), axis=1).astype(np.float32)


def kernel(choice: Choice, x_RC: np.ndarray) -> np.ndarray:
    """[rows] what a kernel with a block of a power of 2 computes; R rows, C columns, B lanes."""
    columns = x_RC.shape[1]
    inside = columns - (choice["bound"] == "less")
    lanes_RB = np.full((len(x_RC), 2**math.ceil(math.log2(columns))), float(choice["other"]), np.float32)
    lanes_RB[:, :inside] = x_RC[:, :inside]
    with np.errstate(over="ignore", invalid="ignore"):
        mapped_RB = _MAPS[choice["map"]](lanes_RB.astype(choice["type"]))
        return _FOLDS[choice["fold"]](mapped_RB, axis=1).astype(np.float32)


def _compared(expected_R: np.ndarray, got_R: np.ndarray) -> Difference | None:
    said = {"tensor": 0, "dtype": "float32", "shape": list(expected_R.shape)}
    return difference(said, [expected_R.tobytes()], said, [got_R.tobytes()])
