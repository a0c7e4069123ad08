"""From the configuration to an engine over servers: launched by us, or given as URLs."""
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

from bridges.engines.engine import ServerEngine, over_servers
from bridges.engines.pool import ADAPTERS, Member
from bridges.engines.probe import Probe, scorer
from bridges.engines.shared import SharedEngine
from bridges.engines.sync import WeightWriter, adapted_layers, choose
from bridges.servers.http import EngineError, Http
from bridges.servers.launch import LaunchPlan, Process
from bridges.servers.router import without_routers
from bridges.servers.server import Server
from bridges.servers.sglang import Sglang
from bridges.servers.vllm import Vllm
from jaxrl_moe.checks.problems import changed
from jaxrl_moe.config import Config
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.phases import LONGEST, longest_rollout
from jaxrl_moe.protocols import Engine

KINDS: dict[str, type[Server]] = {"sglang": Sglang, "vllm": Vllm}
WORDS = {"adapter": "adapters",
         "disk": "whole checkpoints",
         "stream": "buckets of all weights in shared memory",
         "distributed": "buckets of all weights, broadcast by torch.distributed",
         "delta": "buckets of the tensors that changed"}
# settings of section rollout for JaxEngine alone
IN_PROCESS = ("slots", "page_size", "kv_tokens", "memory_fraction", "decode_steps")


def make_engine(config: Config, model: Transformer, tokenizer: Tokenizer,
                placement: Placement | None = None) -> Engine:
    """The engine of rollout.backend = sglang or vllm, its servers started, healthy and able to do what the
    run needs.

    Of several processes, process 0 alone has servers; see shared.py.

    Args:
      placement: the mesh that published weights lie on, or None on one device.

    Raises:
      EngineError: naming the server or the setting, and the mend. What was launched is stopped then.
    """
    kind, reason = choose(config, model)
    print(f"Weights go to the {config.rollout.backend} servers as {WORDS[kind]}: {reason}.")
    idle = [f"rollout.{name}" for name in IN_PROCESS if changed(config.rollout, name)]
    if idle:
        print(f"{', '.join(idle)} is for the engine in this process: the servers go by their own settings "
              "(servers.flags).")
    make = functools.partial(_over_servers, config, model, tokenizer, kind)
    score = scorer(model, placement)
    return SharedEngine(make, score, model, config.model.path) if hosts.several() else make(score)


def _over_servers(config: Config, model: Transformer, tokenizer: Tokenizer, kind: str,
                  score: Callable[..., Any],
                  writing: Callable[[WeightWriter], Any] = lambda writer: writer) -> ServerEngine:
    """The engine, whose probe scores by `score`, and which makes versions of the weights by
    writing(WeightWriter)."""
    adapter = kind == "adapter"
    config = without_routers(config, api_key(config))
    members = make_members(config, model, adapter)
    writer = None
    try:
        context = _ready(config, members, adapter)
        servers = config.servers
        writer = WeightWriter(model, config.model.path, kind, servers.sync_folder, servers.bucket_bytes)
        return over_servers(members, writing(writer), Probe(model, context, config.servers.tolerance, score),
                            config=model.config, context=context, concurrency=config.servers.concurrency,
                            seed=config.seed, eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode,
                            wait_seconds=config.servers.wait, adapters=_adapter_places(config))
    except BaseException:
        _stop(members)
        if writer:
            writer.close()
        raise


def make_members(config: Config, model: Transformer, adapter: bool) -> list[Member]:
    """The servers of the configuration; those to be launched are started, but not waited for."""
    servers = config.servers
    kind = KINDS[config.rollout.backend]
    processes = [None] * len(servers.urls) or _processes(config, model, adapter)
    urls = servers.urls or [process.url for process in processes]
    key = api_key(config)
    members = [
        Member(
            kind(Http(url, api_key=key, timeout=servers.request_timeout, connections=servers.concurrency),
                 model.config, servers.in_flight), process) for url, process in zip(urls, processes)
    ]
    try:
        for member in members:
            if member.process:
                member.process.start()
    except BaseException:
        _stop(members)
        raise
    return members


def _stop(members: list[Member]):
    for member in members:
        if member.process:
            member.process.stop()


def _adapter_places(config: Config) -> int:
    """Adapters at a server: the present one, and those of the versions that requests in flight may have begun
    under."""
    return ADAPTERS + config.rollout.max_staleness


def api_key(config: Config) -> str:
    """Of the servers, or ""."""
    return key_of_setting("servers.api_key_env", config.servers.api_key_env, "the servers")


def _processes(config: Config, model: Transformer, adapter: bool):
    """The servers to launch, not started."""
    servers = config.servers
    plan = LaunchPlan(
        config.rollout.backend, servers.python,
        str(pathlib.Path(config.model.path).absolute())
        if pathlib.Path(config.model.path).exists() else config.model.path, str(model.dtype),
        min(model.config.drawn_context,
            longest_rollout(config) + 1), lora_rank=model.lora.rank if adapter else 0,
        lora_targets=sorted(adapted_layers(model)) if adapter else (), adapters=_adapter_places(config),
        routes=config.moe.replay == "r3", flags=servers.flags)
    folder = pathlib.Path(config.run_dir) / "servers"
    return [
        Process(plan, folder / f"{config.rollout.backend}_{number}.log", devices)
        for number, devices in enumerate(servers.devices())
    ]


def _ready(config: Config, members: list[Member], adapter: bool) -> int:
    """Waits for all servers and asks what they can do; returns the most tokens that every one takes.

    Raises:
      EngineError: one is not healthy in time, lacks something, or its context is too short.
    """
    seconds = config.servers.start_timeout
    contexts = []
    for member in members:
        if member.process:
            member.process.wait(member.server.is_up, seconds)
        else:
            _await_url(member.server, seconds)
        contexts.append(capacity(config, member.server, adapter))
    return min(contexts)


def capacity(config: Config, server: Server, adapter: bool) -> int:
    """Most tokens that the server takes. Raises EngineError where that is too little, or where it lacks what
    the run needs."""
    server.check(adapter, routes=config.moe.replay == "r3")
    context = server.context()
    need = longest_rollout(config)
    if context < need:
        raise EngineError(f"The server {server.url} takes sequences of at most {context} tokens, and "
                          f"{LONGEST} = {need}: start it with a longer context, or lower those.")
    return context


def _await_url(server: Server, seconds: float):
    deadline = time.monotonic() + seconds
    while not server.is_up():
        if time.monotonic() > deadline:
            raise EngineError(f"The server {server.url} is not healthy, {seconds:g} seconds "
                              "(servers.start_timeout) after it was first asked: start it, or correct "
                              "servers.urls.")
        time.sleep(1.0)
