"""From the learner's arrays to a folder that servers load: the adapter alone, or the whole model with it merged in."""
import os
import pathlib
import shutil
import tempfile
import uuid

from flax import nnx

from bridges.adapters import export_adapter
from bridges.engines.http import EngineError
from bridges.engines.server import Weights
from bridges.exporting import export_model
from bridges.importing import adapters
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import cut
from jaxrl_moe.model.transformer import Transformer

RAM_DISK = pathlib.Path("/dev/shm")
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}


class Writer:
    """Writes one folder per version; the last one stays, for servers that come back.

    Args:
      model: the policy, taken apart; its weights come with each call.
      base: the checkpoint that training started from.
      adapter: the adapter alone, or the whole model.
      folder: where, if it must be a place that other machines see; else a RAM disk of this machine.
    """

    def __init__(self, model: Transformer, base: str, adapter: bool, folder: str = ""):
        self._graphdef, _ = nnx.split(model)
        self._base, self.adapter, self._vocab_size = base, adapter, model.config.vocab_size
        parent = pathlib.Path(folder or (RAM_DISK if RAM_DISK.is_dir() else tempfile.gettempdir()))
        if not folder:
            _remove_leftovers(parent)
        try:
            self._root = pathlib.Path(tempfile.mkdtemp(prefix=f"policy-{os.getpid()}-", dir=parent))
        except OSError as error:
            raise EngineError(f"No folder for weights could be made in {parent}: {error.strerror}. Name another one by "
                              "servers.sync_folder.") from error
        self._root.chmod(0o755)  # the servers may be another user's

    def __call__(self, params: nnx.State, version: int, label: str = "") -> Weights:
        """Writes these weights. Raises BridgeError when the disk is full; nothing is left of them then."""
        label = label or f"v{version}-{uuid.uuid4().hex[:8]}"  # unlike any other run's
        folder, model = self._root / label, nnx.merge(self._graphdef, cut(params, self._vocab_size))
        if self.adapter:
            export_adapter(model, folder, self._base)
        else:
            export_model(model, folder, source=self._base)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Weights(label, version, str(folder), self.adapter, size)

    def remove(self, weights: Weights) -> None:
        shutil.rmtree(weights.folder, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


def _remove_leftovers(parent: pathlib.Path) -> None:
    """Frees the memory that runs on this machine which were killed left their weights in."""
    for folder in parent.glob("policy-*-*"):
        owner = folder.name.split("-")[1]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            pass  # no folder of ours, or another user's run


def choose(config: Config, model: Transformer) -> tuple[bool, str]:
    """Whether servers get adapters alone, and why, in words.

    Raises:
      EngineError: the setting asks for what the engine cannot serve.
    """
    wanted, backend = config.servers.weight_sync_backend, config.rollout.backend
    reason = _against_adapters(config, model)
    if wanted == "adapter" and reason:
        raise EngineError(f"servers.weight_sync_backend = 'adapter' does not go: {reason}. Use auto or disk.")
    if wanted != "auto":
        return wanted == "adapter", f"servers.weight_sync_backend = {wanted!r}"
    if reason:
        return False, reason
    beyond = adapted_layers(model) - ATTENTION
    if beyond and (backend == "sglang" or any(model.config.sparse_layers)):
        return False, (f"whether the {backend} servers can run adapters on {', '.join(sorted(beyond))} is not known; "
                       "servers.weight_sync_backend=adapter says they can")
    return True, "adapters alone are trained"


def _against_adapters(config, model) -> str:
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
