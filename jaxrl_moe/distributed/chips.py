"""What accelerators are: rates for time floors, and what XLA's compiler needs to know of one that is not
there. A table that a JSON file of the same fields extends."""
import dataclasses
import os
from collections.abc import Mapping, Sequence

import jax

from jaxrl_moe.outside import Fields, OutsideError, read_object, shown
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError

MEMORY_FRACTION = "XLA_CLIENT_MEM_FRACTION"
OLD_MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
# JAX's own is 0.75; the rest is left to the driver, CUDA's context, its libraries and NCCL
DEFAULT_FRACTION = 0.94
MOST_RATE = 1e21  # of a second, or bytes; a thousand times what one chip can have in this decade


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An NVIDIA GPU as its compiler sees it.

    Attributes:
      kind: the name that the driver reports.
      capability: the compute capability, such as (9, 0).
      cores: streaming multiprocessors; clock: theirs, in GHz; matrix_clock: of their matrix units.
      l2: bytes of the second-level cache; shared: bytes of shared memory of a multiprocessor; threads: that
        it holds at once.
      lanes: float32 operations that it starts in a clock.
    """
    kind: str
    capability: tuple[int, int]
    cores: int
    clock: float
    matrix_clock: float
    l2: int
    shared: int
    threads: int = 2048
    lanes: int = 128


@dataclasses.dataclass(frozen=True)
class Chip:
    """Data-sheet peaks of one device: dense bfloat16 FLOP/s, bytes of memory that a driver reports, bytes/s
    of that memory, bytes/s to its neighbours in the host (one direction); and its architecture, None for one
    that cannot be compiled for."""
    flops: float
    memory: float
    bandwidth: float
    link: float
    architecture: Architecture | None = None

    def client_memory(self, environment: Mapping[str, str] = os.environ) -> int:
        """Bytes that a process of JAX gets of it."""
        return int(self.memory * memory_fraction(environment))


MIB = 1 << 20
GIB = 1 << 30
CHIPS = {
    "H100": Chip(989e12, 79.6 * GIB, 3.35e12, 450e9,
                 Architecture("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 1.83, 50 * MIB, 228 * 1024)),
    # nvidia-smi reports 143,771 MiB; drivers and CUDA take some
    "H200": Chip(989e12, 139.8 * GIB, 4.8e12, 450e9,
                 Architecture("NVIDIA H200", (9, 0), 132, 1.98, 1.83, 60 * MIB, 228 * 1024)),
    "B200": Chip(2250e12, 178 * GIB, 8e12, 900e9,
                 Architecture("NVIDIA B200", (10, 0), 148, 1.965, 1.855, 126 * MIB, 228 * 1024)),
    "A100": Chip(
        312e12, 79.2 * GIB, 2.04e12, 300e9,
        Architecture("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 1.41, 40 * MIB, 164 * 1024, lanes=64)),
    "L40S": Chip(362e12, 44.5 * GIB, 0.864e12, 32e9,
                 Architecture("NVIDIA L40S", (8, 9), 142, 2.52, 2.52, 96 * MIB, 100 * 1024, threads=1536)),
    "RTX3090": Chip(
        71e12, 23.5 * GIB, 0.936e12, 32e9,
        Architecture("NVIDIA GeForce RTX 3090", (8, 6), 82, 1.695, 1.695, 6 * MIB, 100 * 1024, threads=1536)),
}


def platform_of(devices: Sequence[jax.Device] | None = None) -> str:
    """"cpu", "gpu" or "tpu": of the devices; None: of those that JAX takes by itself."""
    return (jax.devices() if devices is None else devices)[0].platform


def default_dtype(platform: str) -> str:
    """Of a model's weights, where model.dtype names none."""
    return "float32" if platform == "cpu" else "bfloat16"


def memory_fraction(environment: Mapping[str, str]) -> float:
    """The share of a GPU's memory that JAX takes.

    Raises:
      UserError: the variable holds no number above 0, up to 1.
    """
    name = OLD_MEMORY_FRACTION if environment.get(OLD_MEMORY_FRACTION) else MEMORY_FRACTION
    text = environment.get(name) or str(DEFAULT_FRACTION)
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"{name}={text} is no share of a GPU's memory: set a number above 0, up to 1, or "
                        f"unset it for {DEFAULT_FRACTION}.")
    return share


def set_memory_fraction(environment: dict[str, str]) -> None:
    """Has JAX take DEFAULT_FRACTION of a GPU's memory, unless the user said otherwise; before its first
    device is asked for."""
    memory_fraction(environment)
    if not environment.get(OLD_MEMORY_FRACTION):
        environment.setdefault(MEMORY_FRACTION, str(DEFAULT_FRACTION))


def find_chip(name: str, path: str | None = None) -> Chip:
    """The chip by name, from CHIPS or a JSON file {name: {flops, memory, bandwidth, link, architecture}};
    architecture may be left out.

    Raises:
      UserError: unknown, or the file has other fields, or values that no chip has.
    """
    chips = dict(CHIPS)
    if path:
        try:
            table = Fields(read_object(path), path)
            chips |= {key: _chip(table.object(key)) for key in table.values}
        except OutsideError as error:
            raise UserError(f"{path} is no table of chips ({str(error).rstrip('.')}): write "
                            "{\"name\": {\"flops\": 1e15, \"memory\": 8e10, \"bandwidth\": 4e12, \"link\": "
                            "4e11}}, and for one that is to be compiled for \"architecture\": {\"kind\": "
                            "\"NVIDIA H100\", \"capability\": [9, 0], \"cores\": 132, \"clock\": 1.98, "
                            "\"matrix_clock\": 1.83, \"l2\": 52428800, \"shared\": 233472}.") from error
    if name not in chips:
        raise UserError(f"There is no chip {name!r}: known are {named(chips)}; --chips=FILE.json adds "
                        "others.")
    return chips[name]


def _chip(fields: Fields) -> Chip:
    fields.only(field.name for field in dataclasses.fields(Chip))
    rates = {key: fields.number(key, least=1.0, most=MOST_RATE)
             for key in ("flops", "memory", "bandwidth", "link")}
    architecture = fields.object("architecture", None)
    return Chip(**rates, architecture=None if architecture is None else _architecture(architecture))


def _architecture(fields: Fields) -> Architecture:
    fields.only(field.name for field in dataclasses.fields(Architecture))
    capability = fields.integers("capability", most=99)
    if len(capability) != 2:
        raise OutsideError(f"{fields.where}: capability is {shown(capability)}; two integers are needed, "
                           "such as [9, 0].")
    if not fields.string("kind").isprintable() or not fields.string("kind"):
        raise OutsideError(f"{fields.where}: kind is {shown(fields.string('kind'))}; the name that the "
                           "driver reports is needed.")
    clocks = {key: fields.number(key, above=0.0, most=100.0) for key in ("clock", "matrix_clock")}
    sizes = {key: fields.integer(key, least=1, most=2**40) for key in ("cores", "l2", "shared")}
    more = {key: fields.integer(key, getattr(Architecture, key), least=1) for key in ("threads", "lanes")}
    return Architecture(kind=fields.string("kind"), capability=tuple(capability), **clocks, **sizes, **more)
