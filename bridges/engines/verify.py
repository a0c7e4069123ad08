"""Are the servers of a run ready for it? Asked before anything is trained; nothing of theirs is changed, and
none is started."""
import os
import pathlib
import shutil
import subprocess

from flax import nnx

from bridges.engines import assembly
from bridges.engines.probe import Probe, scorer
from bridges.engines.sync import choose, weights_folder
from bridges.hf.folders import resolve
from bridges.hf.importing import default_dtype, load_model, model_config
from bridges.servers.http import EngineError, Unavailable
from bridges.servers.router import without_routers
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning import make
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import SamplingParams

IMPORT_SECONDS = 60.0
FIRST = "default"  # how both engines label the weights that they were started with


def check_servers(config: Config, placement: Placement | None = None) -> str:
    """What was found, in words; the model at model.path must be there.

    Servers that run are asked what a run would ask them, and have to compute what model.path does, unless
    they still hold the weights of an earlier run. Of those to be launched the engine is looked for.

    Raises:
      EngineError: one is not there, cannot do what the run needs, or computes something else; or weights have
        no place.
    """
    model = Transformer.abstract(model_config(config.model.path), lora=make.lora_config(config),
                                 dtype=config.model.dtype or default_dtype(placement))
    kind, reason = choose(config, model)
    config = without_routers(config, assembly.api_key(config))
    through = _place_of_weights(config, kind)
    servers = _running(config, model, kind, placement) if config.servers.urls else _to_be_launched(config)
    return f"{servers}; weights go as {assembly.WORDS[kind]} ({reason}) through {through}"


def check_way_to_servers(config: Config, shape: ModelConfig) -> None:
    """Refuses what can be known without asking a server: a way for the weights that cannot carry what is
    trained, no place for them, or no engine where servers are to be launched.

    Args:
      config: resolved.
      shape: of the model, which need not be there yet.

    Raises:
      EngineError: naming the setting.
    """
    model = Transformer.abstract(shape, lora=make.lora_config(config), dtype=config.model.dtype
                                 or default_dtype())
    kind, _ = choose(config, model)
    _place_of_weights(config, kind)
    if not config.servers.urls:
        _to_be_launched(config)


def _to_be_launched(config: Config) -> str:
    backend = config.rollout.backend
    python = config.servers.python
    command = [python, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec({backend!r}) is "
                             "None)"]
    try:
        code = subprocess.run(command, capture_output=True, timeout=IMPORT_SECONDS, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"servers.python = {python!r} does not run ({error}): name the Python of the "
                          f"environment that has {backend}.") from error
    if code:
        raise EngineError(f"servers.python = {python!r} has no {backend}: name the Python of the environment "
                          f"that has it (on a CPU: scripts/engines/install_{backend}_cpu.sh).")
    return f"{len(config.servers.devices())} to be launched, {python} has {backend}"


def _running(config: Config, model: Transformer, kind: str, placement: Placement | None) -> str:
    adapter = kind == "adapter"
    answers = []
    policy = None
    for member in assembly.make_members(config, model, adapter):
        server = member.server
        if not server.is_up():
            raise EngineError(f"The server {server.url} does not answer, or says that it is not well: start "
                              "it, or correct servers.urls.")
        try:
            assembly.capacity(config, server, adapter)
            [sample] = server.draw([model.config.vocab_size // 2], SamplingParams(1), weights=None, seed=0,
                                   stop_ids=())
            label = sample.versions[0][0] if sample.versions else FIRST
            if label == FIRST and not hosts.several():
                policy = policy or load_model(config.model.path, dtype=config.model.dtype or None,
                                              placement=placement)
                error = Probe(policy, server.context(), config.servers.tolerance,
                              scorer(policy, placement))(server, nnx.state(policy))
                answers.append(f"{server.url} computes what {config.model.path} does (off by {error:.1e} "
                               "nats)")
            else:
                answers.append(f"{server.url} is ready, its weights {label!r} were not probed")
        except Unavailable as error:
            raise EngineError(f"{error}. Is a {server.kind} server running there? Its own log "
                              "may tell more.") from error
        finally:
            server.close()
    return ", ".join(answers)


def _place_of_weights(config: Config, kind: str) -> str:
    """Where weights are left for servers: it must be writable and have room.

    Raises:
      EngineError: it is not, or has not.
    """
    folder = weights_folder(config.servers.sync_folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise EngineError(f"The folder {str(folder)!r}, which weights go through, is not there or cannot be "
                          "written to: name another by servers.sync_folder.")
    need = _bytes(config, kind)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise EngineError(f"{folder}, which weights go through, has {free / 2**30:.1f} GiB free, and a "
                          f"version takes {need / 2**30:.1f}: free some, name another folder by "
                          "servers.sync_folder, or set servers.weight_sync_backend=auto.")
    return f"{folder} ({free / 2**30:.0f} GiB free)"


def _bytes(config: Config, kind: str) -> int:
    """That lie there at a time, at most; of an adapter next to nothing."""
    if kind == "disk" and not pathlib.Path(config.model.path).exists() and config.scratch.vocab_size:
        return 0  # it is still to be made, and small
    if kind == "disk":
        return sum(path.stat().st_size for path in resolve(config.model.path).glob("*.safetensors"))
    return 0 if kind in ("adapter", "distributed") else 2 * config.servers.bucket_bytes
