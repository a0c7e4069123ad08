"""Compile-only GPUs: XLA's compiler for an accelerator that this machine need not have.

Needs JAX's CUDA plugin of jaxlib's own version, no GPU, no driver and no CUDA toolkit: `make target` puts it
into a folder of its own, which only processes that compile for a GPU have on their path (beside an installed
plugin, plain `jax.devices()` complains of a missing driver before it falls back to the CPU). What is compiled
is what a GPU would run, but for products whose algorithm XLA chooses by measuring on the card (autotuning),
which takes the first one here, and for large sorts, which are XLA's own here and CUB's there.
"""
import contextlib
import functools
import importlib.metadata
import importlib.util
import operator
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding

from jaxrl_moe.distributed import offload
from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.buffers import PASSES

PLUGIN = "jax_plugins.xla_cuda13"
FOLDER = "JAXRL_MOE_TARGET"  # names another folder than .target/VERSION
# Products by Triton want to be tuned on a card; without them a compile takes a fraction of the time. CUB's
# sort asks a card, which is not there, how much memory it needs.
OPTIONS = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_autotune_level": 0,
    "xla_gpu_enable_cub_radix_sort": False
}
# Programs for CPUs are only looked at, never run: their machine code need not be good.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
CUDNN = 91000  # 9.10
# of xla.PrimitiveType
_S8 = 2
_U8 = 6
_F16 = 10
_F32 = 11
_F64 = 12
_BF16 = 16
_F8 = (19, 20, 23, 24, 25, 28, 29)
_INT32 = 4


def folder() -> pathlib.Path:
    """Where `make target` puts the plugin."""
    root = pathlib.Path(__file__).parents[2] / ".target" / importlib.metadata.version("jaxlib")
    return pathlib.Path(os.environ.get(FOLDER) or root)


def environment(chip: Chip | None, count: int) -> dict[str, str]:
    """Variables of a process that plans for `count` devices. It runs on CPUs, and prints no warnings of
    XLA's, such as that a GPU's own sort could not be chosen without one. chip: None, or one that cannot be
    compiled for: as many CPUs stand for the devices."""
    variables = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "JAX_PLATFORMS": "cpu"}
    if chip is None or chip.architecture is None or not at_hand():
        flags = f"--xla_force_host_platform_device_count={count} --xla_disable_hlo_passes={PASSES} {QUICK}"
        return variables | {"XLA_FLAGS": flags}
    path = [str(folder())] if folder().is_dir() else []
    path += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return variables | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def at_hand() -> bool:
    """Whether processes with the variables of `environment` can compile for GPUs."""
    return folder().is_dir() or installed()


def installed() -> bool:
    """Whether this process can."""
    try:
        return importlib.util.find_spec(PLUGIN) is not None
    except ModuleNotFoundError:  # there is no jax_plugins either
        return False


def usable(chip: Chip) -> bool:
    """Whether this process can compile for a chip."""
    return chip.architecture is not None and installed()


def devices(chip: Chip, count: int = 1) -> list[jax.Device]:
    """`count` GPUs of one host that programs can be compiled for, and nothing else.

    Shardings over them make a program theirs: jax.jit(f).trace(*shapes).lower().compile(OPTIONS).
    """
    description = topologies.get_topology_desc(platform="cuda", target_config=configuration(chip),
                                               topology=f"1x1x{count}")
    return list(description.devices)


class HostSharding(NamedSharding):
    """Of an array that lies in the host's memory. A NamedSharding drops its kind of memory over devices that
    are not there, as they tell of none that they reach."""

    @property
    def memory_kind(self) -> str:
        return offload.KIND

    def __eq__(self, other: Any) -> bool:  # JAX's caches must not take it for a plain one
        return isinstance(other, HostSharding) and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((HostSharding, super().__hash__()))


@contextlib.contextmanager
def tracing(device: jax.Device) -> Iterator[None]:
    """While programs for a device are traced: if it is one of `devices`, kernel libraries ask it, and not
    this machine, what it can do."""
    if device.platform == "cpu":
        yield
        return
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    def able(wanted: str, compare: Any = operator.ge) -> bool:
        own, wanted = (tuple(map(int, text.split("."))) for text in (device.compute_capability, wanted))
        return compare(own, wanted)

    answers = {"check_cudnn_version": lambda: CUDNN, "check_compute_capability": able,
               "is_cuda_compute_capability_equal": functools.partial(able, compare=operator.eq)}
    kept = {name: getattr(cudnn, name) for name in answers}
    try:
        for name, answer in answers.items():
            setattr(cudnn, name, answer)
        with jax.default_device(device):
            yield
    finally:
        for name, answer in kept.items():
            setattr(cudnn, name, answer)


def configuration(chip: Chip) -> str:
    """The chip as text of XLA's GpuTargetConfigProto (xla/stream_executor/device_description.proto)."""
    it = chip.architecture
    major, minor = it.capability
    accelerated = "feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    # An NVIDIA multiprocessor has four matrix units; what they multiply and add in a clock follows from the
    # peak.
    products = chip.flops / (2 * 4 * it.cores * it.matrix_clock * 1e9)
    scalar = {
        _INT32: (64, 1),
        8: (64, 1),
        _F16: (128, 2),
        _F32: (it.lanes, 1),
        _F64: (64 if minor == 0 else 2, 1),
        _BF16: (128, 2)
    }
    matrix = {
        _F16: 1.0,
        _BF16: 1.0,
        _F32: 0.5,
        _S8: 2.0,
        _U8: 2.0
    } | dict.fromkeys(_F8, 2.0 if (major, minor) >= (8, 9) else 1.0)
    scalar_text = "".join(
        _rate(kind, it.clock, units, operations) for kind, (units, operations) in scalar.items())
    matrix_text = "".join(
        _rate(kind, it.matrix_clock, 4, round(share * products)) for kind, share in matrix.items())
    version = f"{CUDNN // 10000}.{CUDNN // 100 % 100}.{CUDNN % 100}"
    return f"""gpu_device_info {{
threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {it.threads}
shared_memory_per_block: 49152 shared_memory_per_core: {it.shared} shared_memory_per_block_optin: {it.shared - 1024}
core_count: {it.cores} fpus_per_core: {it.lanes} clock_rate_ghz: {it.clock}
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
memory_bandwidth: {int(chip.bandwidth)} l2_cache_size: {it.l2} device_memory_size: {int(chip.memory)} device_address_bits: 64
cuda_compute_capability {{ major: {major} minor: {minor} {accelerated} }}
registers_per_core_limit: 65536 registers_per_block_limit: 65536
scalar_unit_description {{ {scalar_text} }} matrix_unit_description {{ {matrix_text} }}
device_vendor: "NVIDIA Corporation" platform_version: "Compute Capability {major}.{minor}" name: "{it.kind}"
pcie_bandwidth: {32 << 30} ecc_enabled: true device_interconnect_info {{ active_links: {18 if chip.link >= 3e11 else 0} }}
driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "{version}" cub_version: "3.1.2"
}}
platform_name: "CUDA"
dnn_version_info {{ major: {CUDNN // 10000} minor: {CUDNN // 100 % 100} patch: {CUDNN % 100} }} device_description_str: "{it.kind}"
"""


def _rate(kind: int, clock: float, units: int, operations: int) -> str:
    return f"rate_infos {{ key: {kind} value {{ clock_rate_ghz: {clock} units_per_core: {units} ops_per_clock: {operations} }} }}\n"
