"""What accelerators can do, for time floors: a table that a JSON file of the same fields extends."""
import dataclasses
import json
import pathlib

from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """Data-sheet peaks of one device: dense bfloat16 FLOP/s, bytes of memory that programs can have, bytes/s of that memory, bytes/s
    to its neighbours in the host (one direction)."""
    flops: float
    memory: float
    bandwidth: float
    link: float


CHIPS = {
    "H100": Chip(989e12, 79.6 * 2**30, 3.35e12, 450e9),
    "H200": Chip(989e12, 139.8 * 2**30, 4.8e12, 450e9),  # nvidia-smi reports 143,771 MiB; drivers and CUDA take some
    "B200": Chip(2250e12, 178 * 2**30, 8e12, 900e9),
}


def find_chip(name: str, path: str | None = None) -> Chip:
    """The chip by name, from CHIPS or a JSON file {name: {flops, memory, bandwidth, link}}.

    Raises:
      UserError: unknown, or the file has other fields.
    """
    chips = dict(CHIPS)
    if path:
        try:
            chips |= {key: Chip(**fields) for key, fields in json.loads(pathlib.Path(path).read_text()).items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is no table of chips ({error}): write {{\"name\": {{\"flops\": 1e15, \"memory\": 8e10, \"bandwidth\": "
                            "4e12, \"link\": 4e11}}.") from error
    if name not in chips:
        raise UserError(f"There is no chip {name!r}: known are {', '.join(chips)}; --chips=FILE.json adds others.")
    return chips[name]
