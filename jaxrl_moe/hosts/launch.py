"""Joins the processes of a job: from flags, SLURM, a Kubernetes JobSet, or the JAX_* variables that
scripts/launch sets.

A process that ends with an error tells the others why, and they end too; one that dies without a word is
missed by its heartbeat within HEARTBEAT seconds, or by the collective that it leaves, whichever is first: see
peers.py.
"""
import dataclasses
import os
import re
import sys
from collections.abc import Mapping

import jax

from jaxrl_moe.hosts import peers
from jaxrl_moe.types import UserError

HEARTBEAT = 20  # seconds without a sign of life after which a process counts as dead
LEAVING = 60    # seconds that a process which is done waits for the others
PORT = 8476     # of process 0, where nothing else names one
JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# as scripts/launch/jobset.yaml sets them
JOBSET_VARIABLES = ("JOBSET_NAME", "REPLICATED_JOB_NAME", "JOBSET_PROCESSES", "JOB_COMPLETION_INDEX")
SLURM_VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


class LaunchError(UserError):
    """A job whose processes cannot be told apart or do not find each other."""


@dataclasses.dataclass(frozen=True)
class Membership:
    """This process's place in a job.

    Attributes:
      coordinator: host:port of process 0.
      source: where this was read, for people.
      local_devices: numbers of the host's devices that are this process's; None: all.
    """
    coordinator: str
    num_processes: int
    process_id: int
    source: str
    local_devices: tuple[int, ...] | None = None


def find(coordinator: str | None, num_processes: int | None, process_id: int | None,
         environment: Mapping[str, str]) -> Membership | None:
    """The place that the flags name, or else the environment; None for a run of one process.

    Raises:
      LaunchError: some of the flags are missing, or a number is none or out of range.
    """
    if num_processes == 1:
        return None
    flags = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    if any(value is not None for value in flags.values()):
        missing = [name for name, value in flags.items() if value is None]
        if missing:
            raise LaunchError(f"{' and '.join(missing)} must be given too: --coordinator=HOST:PORT of "
                              "process 0, --num_processes, and --process_id, which counts from 0.")
        return _checked(coordinator, num_processes, process_id, "the flags")
    if all(name in environment for name in JAX_VARIABLES):
        return _checked(*(environment[name] for name in JAX_VARIABLES), ", ".join(JAX_VARIABLES))
    if all(name in environment for name in JOBSET_VARIABLES):
        name, job, count, index = (environment[name] for name in JOBSET_VARIABLES)
        return _checked(f"{name}-{job}-0-0.{name}:{PORT}", count, index, "the Kubernetes JobSet")
    if all(name in environment for name in SLURM_VARIABLES) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        return _slurm(environment)
    return None


def _slurm(environment: Mapping[str, str]) -> Membership | None:
    job, nodes, count, index = (environment[name] for name in SLURM_VARIABLES)
    port = 61440 + int(job) % 4096  # so that two jobs that share a node do not meet
    membership = _checked(f"{first_node(nodes)}:{port}", count, index, f"SLURM job {job}")
    if membership is None or _tasks_of_node(environment) == 1:
        return membership
    return dataclasses.replace(membership, local_devices=(int(environment["SLURM_LOCALID"]),))


def _tasks_of_node(environment: Mapping[str, str]) -> int:
    """How many of the step's tasks run on this node; SLURM_NTASKS_PER_NODE is there only if that option was
    given, and may be the job's."""
    counts = []
    for entry in environment.get("SLURM_STEP_TASKS_PER_NODE",
                                 environment.get("SLURM_NTASKS_PER_NODE", "1")).split(","):
        tasks, nodes = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", entry).groups()  # 8(x2) is 8,8
        counts += [int(tasks)] * int(nodes or 1)
    return counts[int(environment.get("SLURM_NODEID", 0)) % len(counts)]


def first_node(nodes: str) -> str:
    """The first of SLURM's list of nodes, such as gpu[003-005,9],login1."""
    prefix, number = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes).groups()
    return prefix + (number or "")


def _checked(coordinator: str, num_processes: int | str, process_id: int | str,
             source: str) -> Membership | None:
    try:
        count = int(num_processes)
        index = int(process_id)
    except ValueError as error:
        raise LaunchError(f"The number of processes, {num_processes!r}, or this one's, {process_id!r}, is no "
                          f"whole number (read from {source}).") from error
    if not 0 <= index < count:
        raise LaunchError(f"Process {index} of {count} (read from {source}) is out of range: they count from "
                          f"0 to {count - 1}.")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise LaunchError(f"The coordinator {coordinator!r} (read from {source}) must be HOST:PORT of "
                          "process 0.")
    return None if count == 1 else Membership(coordinator, count, index, source)


def join(membership: Membership) -> None:
    """Waits for all processes of the job; to be called before anything touches a device. Output of all but
    process 0 is dropped.

    Raises:
      LaunchError: process 0 cannot listen.
    """
    count = membership.num_processes
    coordinator = membership.coordinator
    print(f"Process {membership.process_id} of {count}, found from {membership.source}; process 0 is at "
          f"{coordinator}.",
          file=sys.stderr, flush=True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # it would take SIGTERM, upon which the loop saves and stops
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, count, membership.process_id, membership.local_devices,
                                   cluster_detection_method="deactivate", heartbeat_timeout_seconds=HEARTBEAT,
                                   shutdown_timeout_seconds=LEAVING)
    except (RuntimeError, ValueError) as error:
        raise LaunchError(f"The job of {count} processes at {coordinator} could not be joined: {error}. "
                          "Check that the port is free on the host of process 0 and can be reached from the "
                          "others.") from error
    peers.watch()
    if membership.process_id:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)
