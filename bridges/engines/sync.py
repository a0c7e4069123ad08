"""From the learner's arrays to what servers load: a folder with the adapter or the whole model, or a stream
of the merged tensors."""
import contextlib
import functools
import os
import pathlib
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
from flax import nnx

from bridges.hf.exporting import export_model
from bridges.hf.importing import adapters
from bridges.hf.streaming import TensorSet, frozen_sets, tensor_sets
from bridges.peft.adapters import export_adapter
from bridges.servers.http import EngineError, Unavailable
from bridges.servers.receiver import Weights
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.model.transformer import Transformer

HOST = socket.gethostname()
RAM_DISK = pathlib.Path("/dev/shm")
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
STREAMED = ("stream", "distributed", "delta")
BUCKET_BYTES = 256 * 10**6


class WeightWriter:
    """Makes the versions of the policy that servers get.

    Args:
      model: the policy, taken apart; its weights come with each call.
      base: the checkpoint that training started from.
      kind: adapter or disk (one folder per version, the last of which stays for servers that come back), or
        one of STREAMED (nothing is made before a server reads it, and nothing whole ever).
      folder: where, if it must be a place that other machines see; else a RAM disk of this machine.
      bucket_bytes: of what is streamed at a time.
    """

    def __init__(self, model: Transformer, base: str, kind: str, folder: str = "",
                 bucket_bytes: int = BUCKET_BYTES):
        self._graphdef, _ = nnx.split(model)
        self._vocab_size = model.config.vocab_size
        self._base = base
        self.kind = kind
        self.adapter = kind == "adapter"
        self._bucket_bytes = bucket_bytes
        # {name: digest, once it is known}
        self._frozen = dict.fromkeys(frozen_sets(model) if kind in STREAMED else ())
        parent = weights_folder(folder)
        _remove_leftovers(parent)
        try:
            self._root = pathlib.Path(tempfile.mkdtemp(prefix=f"policy-{os.getpid()}-{HOST}-", dir=parent))
        except OSError as error:
            raise EngineError(f"No folder for weights could be made in {parent}: {error.strerror}. Name "
                              "another one by servers.sync_folder.") from error
        self._root.chmod(0o755)  # the servers may be another user's

    def __call__(self, params: nnx.State, version: int, label: str = "") -> Weights:
        """Writes these weights. Raises BridgeError when the disk is full; nothing is left of them then."""
        label = label or f"v{version}-{uuid.uuid4().hex[:8]}"  # unlike any other run's
        folder = self._root / label
        if self.kind in STREAMED:
            return Weights(label, version, str(folder), False, walk=functools.partial(self._walk, params),
                           changed_only=self.kind == "delta", distributed=self.kind == "distributed",
                           bucket_bytes=self._bucket_bytes)
        model = nnx.merge(self._graphdef, cut(params, self._vocab_size))
        if self.adapter:
            export_adapter(model, folder, self._base)
        else:
            export_model(model, folder, source=self._base)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Weights(label, version, str(folder), self.adapter, size)

    def _walk(self, params: nnx.State, held: Sequence[Mapping[str, bytes]],
              read: Callable | None = None) -> Iterator[TensorSet]:
        """The sets of these weights. Those that training leaves alone are not even read where all readers
        have them.

        Args:
          params: of the version.
          held: {set: digest} of each reader.
          read: reads a set by its name; None: from params.
        """
        known = {name: digest for name, digest in self._frozen.items()
                 if digest and all(digests.get(name) == digest for digests in held)}
        with _still_there(params):
            if read is None:
                with alone():
                    params = cut(params, self._vocab_size)
            for tensor_set in tensor_sets(nnx.merge(self._graphdef, params), known, read):
                if tensor_set.name in self._frozen:
                    self._frozen[tensor_set.name] = tensor_set.digest
                yield tensor_set

    def remove(self, weights: Weights) -> None:
        shutil.rmtree(weights.folder, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


@contextlib.contextmanager
def _still_there(params: nnx.State) -> Iterator[None]:
    """Raises Unavailable where training has taken the arrays, or takes them within the block."""
    def gone():
        return any(leaf.is_deleted() for leaf in jax.tree.leaves(params))

    message = "these weights are no longer there: training has gone on"
    if gone():
        raise Unavailable(message)
    try:
        yield
    except RuntimeError as error:
        if gone():
            raise Unavailable(message) from error
        raise


def weights_folder(sync_folder: str) -> pathlib.Path:
    """Where weights are left for servers under this servers.sync_folder."""
    return pathlib.Path(sync_folder or (RAM_DISK if RAM_DISK.is_dir() else tempfile.gettempdir()))


def _remove_leftovers(parent: pathlib.Path) -> None:
    """Frees what runs on this machine which were killed left their weights in; other machines may use the
    folder too."""
    for folder in parent.glob(f"policy-*-{HOST}-*"):
        owner = folder.name.split("-")[1]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            pass  # no folder of ours, or another user's run


def choose(config: Config, model: Transformer) -> tuple[str, str]:
    """Which kind of sync servers get, and why, in words.

    Raises:
      EngineError: the setting asks for what the engine cannot serve.
    """
    wanted = config.servers.weight_sync_backend
    backend = config.rollout.backend
    reason = _against_adapters(config, model)
    if wanted == "adapter" and reason:
        raise EngineError(f"servers.weight_sync_backend = 'adapter' does not go: {reason}. Use auto or "
                          "delta.")
    if wanted != "auto":
        return wanted, f"servers.weight_sync_backend = {wanted!r}"
    if not reason:
        beyond = adapted_layers(model) - ATTENTION
        if not beyond or (backend == "vllm" and not any(model.config.sparse_layers)):
            return "adapter", "adapters alone are trained"
        reason = (f"whether the {backend} servers can run adapters on {', '.join(sorted(beyond))} is not "
                  "known; servers.weight_sync_backend=adapter says they can")
    if model.lora is None:
        return "stream", f"{reason}, and each step changes nearly every tensor"
    return "delta", f"{reason}; what has no adapter stays as it is"


def _against_adapters(config: Config, model: Transformer) -> str:
    if model.lora is None:
        return "all weights are trained, there is no adapter (lora.rank = 0)"
    if config.moe.router == "train" or config.moe.bias_rate > 0:
        return "routers are trained too, which an adapter does not hold"
    beyond = adapted_layers(model) - ATTENTION
    if config.rollout.backend == "sglang" and beyond and any(model.config.sparse_layers):
        return f"SGLang rejects adapters on experts, and this one adapts {', '.join(sorted(beyond))}"
    return ""


def adapted_layers(model: Transformer) -> set[str]:
    """Names of the adapted layers, such as q_proj."""
    return {path.split(".")[-2] for path in adapters(model)}
