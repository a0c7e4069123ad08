"""A group of torch.distributed: this process and the workers of one server, to broadcast weights without any
disk.

gloo between CPUs, nccl between GPUs. This is the only part of weight sync that needs torch here, and it is
imported on use. Each server has a group of its own, so that one that dies in a broadcast takes no other with
it.
"""
import concurrent.futures
import datetime
import socket
import time
import urllib.parse
import uuid
from collections.abc import Callable

import numpy as np

from bridges.hf.tensor_files import NAMES
from bridges.servers.http import EngineError, Unavailable, is_local

TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
SECONDS = 60.0      # until all are there, or a broadcast has gone through
POLL_SECONDS = 0.001
REFUSAL_SECONDS = 0.2


class BroadcastGroup:
    """See open(). `address`, `port`, `name`, `backend` and `size` are what the others need to join; this
    process is rank 0."""

    def __init__(self, url: str, workers: int):
        torch = _torch()
        self.size = 1 + workers
        self.name = f"jaxrl-{uuid.uuid4().hex[:8]}"
        self.address = _address_towards(url)
        self.backend = "nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available(
        ) else "gloo"
        self._device = "cuda" if self.backend == "nccl" else "cpu"
        self._timeout = datetime.timedelta(seconds=SECONDS)
        self._threads = concurrent.futures.ThreadPoolExecutor(2, "group")
        # by itself the store would listen on all addresses
        listening = socket.create_server((self.address, 0))
        self.port = listening.getsockname()[1]
        self._store = torch.distributed.TCPStore(self.address, self.port, self.size, True, self._timeout,
                                                 wait_for_workers=False, master_listen_fd=listening.detach())

    @classmethod
    def open(cls, url: str, workers: int, join: Callable[["BroadcastGroup"], None]) -> "BroadcastGroup":
        """A group with a server's workers.

        Args:
          url: of the server.
          workers: that it has.
          join: asks the server to join; it answers when its workers have.

        Raises:
          EngineError: torch is not installed.
          Unavailable: the server did not join.
        """
        group = cls(url, workers)
        joined = group._threads.submit(join, group)
        # nobody can have joined yet: it was refused
        if concurrent.futures.wait([joined], REFUSAL_SECONDS).done:
            joined.result()
        entered = group._threads.submit(group._enter)
        try:
            for done in concurrent.futures.as_completed((entered, joined)):  # who fails first says why
                done.result()
        except RuntimeError as error:
            raise Unavailable(f"{url} did not join the group for weights at {group.address}:{group.port} "
                              f"within {SECONDS:g} seconds: {error}") from error
        return group

    def _enter(self):
        """As the servers do it, to the names of keys in the store."""
        torch = _torch()
        c10d = torch.distributed.distributed_c10d
        self._group, _ = c10d._new_process_group_helper(self.size, 0, [], c10d.Backend(self.backend),
                                                        c10d.PrefixStore(self.name, self._store),
                                                        group_name=self.name, timeout=self._timeout)

    def broadcast(self, bucket: dict[str, np.ndarray], announce: Callable[[list, list, list], None]) -> None:
        """Sends the tensors, one behind the other as bytes, to all workers.

        Args:
          announce: tells the server names, dtypes and shapes, and returns when it has the tensors in place.

        Raises:
          Unavailable: they did not go through.
        """
        torch = _torch()
        # widest items first, so that each tensor begins at a multiple of its item
        rows = sorted(bucket.items(), key=lambda row: -row[1].itemsize)
        flat = torch.from_numpy(np.concatenate([array.reshape(-1).view(np.uint8)
                                                for _, array in rows])).to(self._device)
        told = self._threads.submit(announce, [key for key, _ in rows],
                                    [TORCH_NAMES[NAMES[array.dtype]] for _, array in rows],
                                    [list(array.shape) for _, array in rows])
        try:
            work = self._group.broadcast([flat], torch.distributed.BroadcastOptions())
            while not work.is_completed() and not told.done():
                time.sleep(POLL_SECONDS)
            told.result()
            work.wait()
        except RuntimeError as error:
            raise Unavailable(f"a broadcast of weights failed: {error}") from error

    def close(self) -> None:
        """Leaves the group; whoever waits in it is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._group = self._store = None


def _address_towards(url: str) -> str:
    """This machine's address as the server's machine sees it."""
    if is_local(url):
        return "127.0.0.1"
    address = urllib.parse.urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address.hostname, address.port or 80))  # sends nothing
        return probe.getsockname()[0]


def _torch():
    try:
        import torch
    except ImportError as error:
        raise EngineError("servers.weight_sync_backend = 'distributed' broadcasts by torch.distributed, and "
                          "torch is not installed: pip install 'jaxrl-moe[distributed]', or use stream, "
                          "which needs a folder that the servers see.") from error
    return torch
