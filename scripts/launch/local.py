"""Starts a script as several processes on this machine, each with its share of the devices: to try a run of
many hosts.

    python scripts/launch/local.py --processes=2 --cpu_devices=2 -- \\
        scripts/train.py --config=configs/quickstart.py --config.mesh.data=-1

Everything after -- is the command that each process runs. If one fails, the others stop by themselves, and
this exits non-zero.
"""
import os
import signal
import subprocess
import sys

from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

from absl import app, flags

from jaxrl_moe import options
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.types import UserError

PROCESSES = options.define_number("processes", 2, "how many to start", 1, 4096)
CPU_DEVICES = options.define_number("cpu_devices", 0, "virtual CPU devices of each process; 0: each gets its "
                                    "share of the accelerators", 0, 4096)
ACCELERATORS = options.define_number("accelerators", 0, "devices of this machine, to be divided; needed "
                                     "where cpu_devices is 0", 0, 4096)
PORT = options.define_number("port", 0, "of process 0; 0: a free one", 0, 65535)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print what would run, and start nothing")


def main(arguments: list[str]) -> None:
    command = [sys.executable, *arguments[1:]]
    count = PROCESSES.value
    if len(command) < 2:
        raise UserError("Give the script and its options after --, such as -- scripts/train.py "
                        "--config=configs/quickstart.py.")
    if not os.path.isfile(command[1]):
        raise UserError(f"There is no script {command[1]!r}: give one after --, such as -- scripts/train.py.")
    if not CPU_DEVICES.value and (ACCELERATORS.value < count or ACCELERATORS.value % count):
        raise UserError(f"Give --cpu_devices, or --accelerators as a multiple of the {count} processes.")
    address = f"127.0.0.1:{PORT.value or free_port()}"
    places = [place(index, count, address) for index in range(count)]
    for variables in places:
        print(" ".join([*(f"{name}={value!r}" for name, value in variables.items()), *command]), flush=True)
    if not DRY_RUN.value:
        sys.exit(run(command, places))


def place(index: int, count: int, address: str) -> dict[str, str]:
    """The environment variables of a process, beside those it inherits."""
    variables = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index)
    }
    if CPU_DEVICES.value:
        old = os.environ.get("XLA_FLAGS", "").split()
        kept = [flag for flag in old if "host_platform_device_count" not in flag]
        return variables | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(
            [*kept, f"--xla_force_host_platform_device_count={CPU_DEVICES.value}"])}
    share = ACCELERATORS.value // count
    return variables | {
        "CUDA_VISIBLE_DEVICES": ",".join(str(number) for number in range(index * share, (index + 1) * share))
    }


def run(command: list[str], places: list[dict[str, str]]) -> int:
    """Waits for all; SIGTERM goes on to process 0, which has all stop at the same step. Returns the first
    code that is not 0."""
    children = [subprocess.Popen(command, env=os.environ | variables) for variables in places]
    signal.signal(signal.SIGTERM, lambda *_: children[0].send_signal(signal.SIGTERM))
    try:
        codes = [child.wait() for child in children]
    except KeyboardInterrupt:  # of the terminal, which sent it to the children too
        for child in children:
            child.wait()
        raise
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


if __name__ == "__main__":
    app.run(main, flags_parser=options.parsed)
