"""What a model declares of its parameters: which logical axes each has, and how it is trained.

Families of models, and the critic, declare rows; where arrays lie on a mesh, which of them weight decay
leaves alone, and what a product costs is read from the row. A parameter without a row is an error that names
it: nothing is guessed from how a name is spelt.
"""
import dataclasses
from collections.abc import Sequence

from jaxrl_moe.types import UserError

# axes that stack matrices
LAYERS = "layers"
EXPERT = "expert"
LOGICAL = (LAYERS, EXPERT, "vocab", "heads", "model")


class UndeclaredParameter(UserError):
    """A parameter that no row covers."""


@dataclasses.dataclass(frozen=True)
class ParameterRow:
    """One kind of parameter.

    Attributes:
      path: from the top of its model, such as "stacks.*.attention.q_proj.weight"; * is any number. Parameters
        of the same path may differ in how many axes they have, as the projections of a dense MLP and of
        experts do.
      axes: the logical axis of each dimension, one of LOGICAL, or None where it is whole on every device. See
        sharding.RULES.
      decayed: whether the optimiser's weight decay acts on it.
      router: whether it is the matrix of a router.
    """
    path: str
    axes: tuple[str | None, ...]
    decayed: bool = True
    router: bool = False

    @property
    def is_matrix(self) -> bool:
        """Whether tokens are multiplied by it, in each layer and expert: two dimensions are left besides
        those that stack."""
        return sum(axis not in (LAYERS, EXPERT) for axis in self.axes) >= 2


_rows: dict[tuple[str, int], ParameterRow] = {}
_roots: set[str] = (
    set()
)  # first names of all paths: what stands before one, as in an optimiser's state, is not part of the path


def declare(rows: Sequence[ParameterRow]) -> None:
    """Adds rows to those that are known.

    Raises:
      ValueError: a row names an axis that there is not, or stands against one of the same path and number of
        axes.
    """
    for row in rows:
        odd = [axis for axis in row.axes if axis is not None and axis not in LOGICAL]
        known = _rows.get((row.path, len(row.axes)), row)
        if odd:
            raise ValueError(f"The row of the parameter {row.path!r} names the axis {odd[0]!r}; known are "
                             f"{', '.join(LOGICAL)}.")
        if known != row:
            raise ValueError(f"The parameter {row.path!r} with {len(row.axes)} axes is declared twice: "
                             f"{known} and {row}. Give one of the two another name.")
        _rows[row.path, len(row.axes)] = row
        _roots.add(row.path.partition(".")[0])


def row_of(path: str, ndim: int) -> ParameterRow:
    """The row of the array at a dotted path such as "stacks.0.attention.q_proj.weight", or of one that an
    optimiser keeps for it, whose path ends so.

    Raises:
      UndeclaredParameter: there is none.
    """
    names = ["*" if name.isdigit() else name for name in path.split(".")]
    first = next((index for index, name in enumerate(names) if name in _roots), 0)
    row = _rows.get((".".join(names[first:]), ndim))
    if row is None:
        raise UndeclaredParameter(f"The parameter {path!r} with {ndim} axes has no row: declare one, with "
                                  "the logical axes of its dimensions, in the file of its model's family "
                                  "(jaxrl_moe/model/families).")
    return row
