"""Several processes as one program: all run the same code on the same inputs, process 0 alone touches the
world outside.

What process 0 finds out (grades, what lies on disk, whether to stop) reaches the others by `from_leader`;
what is split over devices of several processes reaches every host by `fetch`. Both must be called by all
processes, in the same order. In a run of one process they are the call itself and jax.device_get.
"""
import pathlib
import platform
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from jaxrl_moe.hosts.messages import PATIENCE_MS, hear, pack, tell, unpack
from jaxrl_moe.types import UserError

MACHINE = "jaxrl_moe/machine"
BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")


def several() -> bool:
    """Whether there is more than one process."""
    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def leads() -> bool:
    """Whether this is process 0, or the only one."""
    return distributed.global_state.process_id == 0


def announce() -> None:
    """Tells the other processes which machine this one runs on."""
    state = distributed.global_state
    state.client.key_value_set(f"{MACHINE}/{state.process_id}", machine())


def processes_here() -> int:
    """Processes of the job on this machine, this one counted."""
    if not several():
        return 1
    state = distributed.global_state
    names = [
        state.client.blocking_key_value_get(f"{MACHINE}/{index}", PATIENCE_MS)
        for index in range(state.num_processes)
    ]
    return names.count(names[state.process_id])


def machine() -> str:
    """A name that containers on one machine share, for they share its memory."""
    return BOOT.read_text().strip() if BOOT.exists() else platform.node()


def from_leader(function: Callable[[], Any]) -> Any:
    """What process 0 gets from function(), in every process; the others do not call it. The value may hold
    what JSON has, and arrays.

    Raises:
      UserError: in all processes, if process 0 raised it; another exception is raised there and reaches the
        others as text.
    """
    if not several():
        return function()
    return told(function) if leads() else answered(hear())


def told(function: Callable[[], Any]) -> Any:
    """Process 0's half of from_leader: function()'s value, or its error, for those who hear it."""
    try:
        data = pack({"value": function()})
    except BaseException as error:
        tell(pack({"error": str(error), "user": isinstance(error, UserError)}))
        raise
    tell(data)
    return unpack(data)["value"]  # as the others see it


def answered(answer: Mapping[str, Any]) -> Any:
    """The others' half, of what they heard."""
    if "error" in answer:
        raise (UserError if answer["user"] else RuntimeError)(answer["error"])
    return answer["value"]


def on_leader(function: Callable[[], Any]) -> None:
    """Process 0 does it while the others wait; an error there is one everywhere."""
    def silent() -> None:
        function()

    from_leader(silent)


def leader_first(function: Callable[[], Any]) -> None:
    """Process 0 does it, then the others do: what it makes or downloads, they find."""
    on_leader(function)
    if not leads():
        function()


def barrier() -> None:
    """Waits for what process 0 did before."""
    on_leader(lambda: None)


def raised(name: str, flag: bool) -> bool:
    """Whether the flag of this name has ever been raised in some process. All get the same answer; what
    another process has raised just now may count the next time only."""
    if not several():
        return flag
    client = distributed.global_state.client
    key = f"jaxrl_moe/flag/{name}"
    if flag:
        client.key_value_set(key, "1", allow_overwrite=True)
    return from_leader(lambda: flag or _present(client, key))


def _present(client: Any, key: str) -> bool:
    try:
        return client.key_value_try_get(key) is not None
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" in str(error):
            return False
        raise


def smallest(number: int) -> int:
    """The least of the processes' numbers (int32)."""
    return int(multihost_utils.process_allgather(np.int32(number)).min()) if several() else number


def mine(index: int) -> bool:
    """Whether this process does the work of this number, where all share it out in turn."""
    state = distributed.global_state
    return not several() or index % state.num_processes == state.process_id


def gathered(array: np.ndarray) -> np.ndarray:
    """The sum of the processes' arrays, of which each has filled in its own share of rows."""
    return multihost_utils.process_allgather(array).sum(axis=0, dtype=array.dtype) if several() else array


def fetch(tree: Any) -> Any:
    """The arrays of a pytree as NumPy arrays, whole in every process."""
    return jax.device_get(jax.tree.map(_whole, tree))


def _whole(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    return multihost_utils.process_allgather(leaf, tiled=True)
