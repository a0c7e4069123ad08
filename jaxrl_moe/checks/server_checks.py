"""Checks of the settings of rollouts on servers of SGLang or vLLM."""
import dataclasses
import urllib.parse
from collections.abc import Iterator

from jaxrl_moe.config import Config
from jaxrl_moe.config_checks import changed
from jaxrl_moe.hosts.addresses import is_loopback

_TO_LAUNCH = ("python", "count", "gpus", "flags")


def server_problems(config: Config) -> Iterator[str]:
    """Yields settings of servers that contradict each other or the rest, or that nothing reads."""
    backend = config.rollout.backend
    chosen = {field.name: getattr(config.servers, field.name) for field in dataclasses.fields(config.servers)
              if changed(config.servers, field.name)}
    if backend == "jax":
        for name, value in chosen.items():
            yield (f"servers.{name} = {value!r} has no effect under rollout.backend = 'jax', which draws in this process: set "
                   "rollout.backend=sglang or vllm, or leave the setting out.")
        return
    yield from _ways_to_servers(config, chosen)
    yield from _what_servers_cannot_do(config)


def _ways_to_servers(config: Config, chosen: dict) -> Iterator[str]:
    servers, backend = config.servers, config.rollout.backend
    if servers.urls:
        for name in _TO_LAUNCH:
            if name in chosen:
                yield (f"servers.{name} = {chosen[name]!r} is for servers that the run launches, and servers.urls names some that run "
                       "already: leave one of the two out.")
    elif not servers.python:
        yield (f"rollout.backend = {backend!r} needs servers: give servers.urls, or servers.python, the Python of the environment that "
               f"has {backend}, to launch them (on a CPU: scripts/engines/install_{backend}_cpu.sh).")
    if "count" in chosen and servers.count != len(servers.devices()):
        yield (f"servers.gpus = {servers.gpus!r} is for {len(servers.devices())} servers and servers.count = {servers.count}: leave "
               "servers.count out.")
    for url in servers.urls:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"servers.urls holds {url!r}, which is no URL of a server: write it as http://host:port."
        elif not is_loopback(parts.hostname) and not servers.sync_folder and servers.weight_sync_backend != "distributed":
            yield (f"servers.urls holds {url!r}, on another machine, which does not see the RAM disk that weights go through: name a "
                   "folder that both see by servers.sync_folder, or set servers.weight_sync_backend=distributed.")
    if len(set(servers.urls)) < len(servers.urls):
        yield f"servers.urls names a server twice: {', '.join(servers.urls)}."


def _what_servers_cannot_do(config: Config) -> Iterator[str]:
    backend, rollout, wanted = config.rollout.backend, config.rollout, config.servers.weight_sync_backend
    if config.rollout_mesh.apart:
        yield (f"rollout_mesh gives the rollout devices of this process, and rollout.backend = {backend!r} draws on servers: leave "
               "rollout_mesh out, or set rollout.backend=jax.")
    if config.moe.replay == "r3" and backend == "vllm":
        yield ("moe.replay = 'r3' replays the routes of the engine, which are not read from vLLM servers: set moe.replay=r2, or "
               "rollout.backend=sglang or jax.")
    if backend == "vllm" and (rollout.top_p < 1 or rollout.top_k > 0 or rollout.min_p > 0):
        yield ("rollout.top_p, top_k and min_p do not go with rollout.backend = 'vllm': it gives log-probs of what they leave, not of the "
               "whole distribution, which the update needs. Leave them at 1, 0 and 0, or set rollout.backend=sglang.")
    if rollout.stragglers == "cut":
        yield ("rollout.stragglers = 'cut' ends rollouts at what they have, which servers do not hand out before the end: set "
               "rollout.stragglers=abort or carry, or rollout.backend=jax.")
    for name in ("bucket_bytes",) * (wanted in ("adapter", "disk")) + ("in_flight",) * (wanted == "adapter"):
        if changed(config.servers, name):
            yield (f"servers.{name} = {getattr(config.servers, name)!r} has no effect under servers.weight_sync_backend = {wanted!r}, "
                   f"which {'sends no buckets' if name == 'bucket_bytes' else 'leaves requests their own adapter'}: leave it out.")
    if rollout.max_staleness == 0 and changed(config.servers, "in_flight"):
        yield (f"servers.in_flight = {config.servers.in_flight!r} has no effect with rollout.max_staleness = 0, where nothing is in flight "
               "when weights change: set rollout.max_staleness to 1 or more, or leave it out.")
    if wanted == "distributed" and changed(config.servers, "sync_folder"):
        yield (f"servers.sync_folder = {config.servers.sync_folder!r} has no effect under servers.weight_sync_backend = 'distributed', "
               "which leaves nothing in folders: leave it out.")
    if wanted == "adapter" and config.lora.rank == 0:
        yield ("servers.weight_sync_backend = 'adapter' sends the LoRA adapter, and lora.rank = 0 trains all weights: use stream or auto, "
               "or set lora.rank above 0.")
    if wanted == "adapter" and (config.moe.router == "train" or config.moe.bias_rate > 0):
        yield ("servers.weight_sync_backend = 'adapter' does not carry the routers, which moe.router = 'train' or moe.bias_rate moves: use "
               "delta or auto.")
