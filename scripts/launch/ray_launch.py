"""Starts a script on several hosts of a Ray cluster: one process a host, placed apart, each with its GPUs.

    python scripts/launch/ray_launch.py --hosts=4 --gpus=8 -- \\
        scripts/train.py --config=configs/gsm8k/grpo.py --config.mesh.fsdp=-1

Run it from the repository on the head node; hosts need the package, and a shared disk for run_dir. Ray only
places the processes: they join jax.distributed by themselves, and if one dies the others end within 30 s.
--restarts starts the whole job again, which goes on from its newest checkpoint. Needs `pip install ray`.
"""
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

from absl import app, flags

from jaxrl_moe import options
from jaxrl_moe.types import UserError

HOSTS = options.define_number("hosts", 2, "how many", 1)
GPUS = options.define_number("gpus", 8, "GPUs of each host; 0: none")
CPUS = options.define_number("cpus", 16, "CPU cores of each host to reserve", 1)
RESTARTS = options.define_number("restarts", 0, "how often a failed job is started again")
ADDRESS = flags.DEFINE_string("address", "auto", "of the Ray cluster")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print what would run, and start nothing")


class Host:
    """An actor on one host: it says where it is, and runs the process."""

    def address(self) -> str:
        """host:port that process 0 can listen at."""
        import ray
        with socket.socket() as listener:
            listener.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{listener.getsockname()[1]}"

    def run(self, command: list[str], folder: str, variables: dict[str, str]) -> int:
        """Exit code of the command; the process ends with its actor."""
        return subprocess.run(command, cwd=folder, env=os.environ | variables, check=False,
                              preexec_fn=lambda: _end_with_parent()).returncode


def _end_with_parent() -> None:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main(arguments: list[str]) -> None:
    command = ["python", "-u", *arguments[1:]]
    if len(command) < 3:
        raise UserError("Give the script and its options after --, such as -- scripts/train.py "
                        "--config=configs/gsm8k/grpo.py.")
    bundles = [{"CPU": CPUS.value} | ({"GPU": GPUS.value} if GPUS.value else {}) for _ in range(HOSTS.value)]
    print(f"Placement group, one bundle a host (STRICT_SPREAD): {bundles}")
    for index in range(HOSTS.value):
        print(" ".join([*(f"{k}={v}" for k, v in place(index, "HOST_0:PORT").items()), *command]))
    if DRY_RUN.value:
        return
    for attempt in range(RESTARTS.value + 1):
        code = start(command, bundles)
        if code == 0:
            return
        print(f"Attempt {attempt + 1} of {RESTARTS.value + 1} ended with exit code {code}.", file=sys.stderr)
    sys.exit(code)


def place(index: int, address: str) -> dict[str, str]:
    """The environment variables by which a process joins."""
    return {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(HOSTS.value),
        "JAX_PROCESS_ID": str(index)
    }


def start(command: list[str], bundles: list[dict[str, int]]) -> int:
    """Places the actors and waits for all of them; the first exit code that is not 0, 1 for a host that was
    lost."""
    try:
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
    except ImportError as error:
        raise UserError("ray is not installed: `pip install ray`, or start the processes with --coordinator "
                        "on each host.") from error
    if not ray.is_initialized():
        ray.init(address=ADDRESS.value)
    group = placement_group(bundles, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    try:
        hosts = [
            ray.remote(Host).options(
                num_cpus=CPUS.value,
                num_gpus=GPUS.value, scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_bundle_index=index)).remote()
            for index in range(len(bundles))
        ]
        address = ray.get(hosts[0].address.remote())
        return wait([
            host.run.remote(command, os.getcwd(), place(index, address)) for index, host in enumerate(hosts)
        ])
    finally:
        remove_placement_group(group)


def wait(runs: list[Any]) -> int:
    import ray
    worst = 0
    for run in runs:
        try:
            code = ray.get(run)
        except ray.exceptions.RayError as error:
            print(f"A host was lost: {error}", file=sys.stderr)
            code = 1
        worst = worst or (code if code >= 0 else 128 - code)
    return worst


if __name__ == "__main__":
    app.run(main, flags_parser=options.parsed)
