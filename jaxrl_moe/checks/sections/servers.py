"""Settings of rollouts on servers of SGLang or vLLM, and what the machine must have for them."""
import dataclasses
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.checks.problems import changed, idle, told
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.phases import sampling
from jaxrl_moe.types import Problem

_TO_LAUNCH = ("python", "count", "gpus", "flags")


def server_problems(config: Config) -> Iterator[Problem]:
    """Yields settings of servers that contradict each other or the rest, or that nothing reads."""
    backend = config.rollout.backend
    chosen = {field.name: getattr(config.servers, field.name) for field in dataclasses.fields(config.servers)
              if changed(config.servers, field.name)}
    if backend == "jax":
        yield from idle("servers", config.servers, chosen,
                        " under rollout.backend = 'jax', which draws in this process",
                        "set rollout.backend=sglang or vllm")
        return
    yield from _ways_to_servers(config, chosen)
    yield from _what_servers_cannot_do(config)
    yield from _idle_sync(config)


def _ways_to_servers(config: Config, chosen: Mapping[str, Any]) -> Iterator[Problem]:
    servers = config.servers
    backend = config.rollout.backend
    if servers.urls:
        for name in _TO_LAUNCH:
            if name in chosen:
                yield Problem(f"servers.{name}", chosen[name], "is for servers that the run launches, and "
                              "servers.urls names some that run already", "leave one of the two out")
    elif not servers.python:
        yield Problem("rollout.backend", backend, "needs servers",
                      "give servers.urls, or servers.python, the Python of the environment that has "
                      f"{backend}, to launch them (on a CPU: scripts/engines/install_{backend}_cpu.sh)")
    if "count" in chosen and servers.count != len(servers.devices()):
        yield Problem("servers.gpus", servers.gpus,
                      f"is for {len(servers.devices())} servers and servers.count = {servers.count}",
                      "leave servers.count out")
    for url in servers.urls:
        yield from _bad_url(config, url)
    if len(set(servers.urls)) < len(servers.urls):
        yield Problem("servers.urls", None, "names a server twice",
                      f"name each of {', '.join(dict.fromkeys(servers.urls))} once")


def _bad_url(config: Config, url: str) -> Iterator[Problem]:
    servers = config.servers
    address = urllib.parse.urlsplit(url)
    broadcast = servers.weight_sync_backend == "distributed"
    if address.scheme not in ("http", "https") or not address.hostname:
        yield Problem("servers.urls", None, f"holds {url!r}, which is no URL of a server",
                      "write it as http://host:port")
    elif not is_loopback(address.hostname) and not (servers.sync_folder or broadcast):
        yield Problem("servers.urls", None, f"holds {url!r}, on another machine, which does not see the RAM "
                      "disk that weights go through", "name a folder that both see by servers.sync_folder, "
                      "or set servers.weight_sync_backend=distributed")


def _what_servers_cannot_do(config: Config) -> Iterator[Problem]:
    backend = config.rollout.backend
    wanted = config.servers.weight_sync_backend
    moe = config.moe
    if config.rollout_mesh.apart:
        yield Problem("rollout_mesh", None, "gives the rollout devices of this process, and rollout.backend "
                      f"= {backend!r} draws on servers", "leave rollout_mesh out, or set rollout.backend=jax")
    if moe.replay == "r3" and backend == "vllm":
        yield Problem("moe.replay", "r3",
                      "replays the routes of the engine, which are not read from vLLM servers",
                      "set moe.replay=r2, or rollout.backend=sglang or jax")
    if backend == "vllm" and sampling(config).truncates:
        yield Problem("rollout.top_p, top_k and min_p", None, "do not go with rollout.backend = 'vllm': it "
                      "gives log-probs of what they leave, not of the whole distribution, which the update "
                      "needs", "leave them at 1, 0 and 0, or set rollout.backend=sglang")
    if config.rollout.stragglers == "cut":
        yield Problem("rollout.stragglers", "cut",
                      "ends rollouts at what they have, which servers do not hand out before the end",
                      "set rollout.stragglers=abort or carry, or rollout.backend=jax")
    if wanted == "adapter" and config.lora.rank == 0:
        yield Problem("servers.weight_sync_backend", "adapter",
                      "sends the LoRA adapter, and lora.rank = 0 trains all weights",
                      "use stream or auto, or set lora.rank above 0")
    if wanted == "adapter" and (moe.router == "train" or moe.bias_rate > 0):
        yield Problem("servers.weight_sync_backend", "adapter",
                      "does not carry the routers, which moe.router = 'train' or moe.bias_rate moves",
                      "use delta or auto")


def _idle_sync(config: Config) -> Iterator[Problem]:
    servers = config.servers
    wanted = config.servers.weight_sync_backend
    under = f" under servers.weight_sync_backend = {wanted!r}, which"
    if wanted in ("adapter", "disk"):
        yield from idle("servers", servers, ["bucket_bytes"], f"{under} sends no buckets", "choose another")
    if wanted == "adapter":
        yield from idle("servers", servers, ["in_flight"], f"{under} leaves requests their own adapter",
                        "choose another")
    if config.rollout.max_staleness == 0:
        yield from idle("servers", servers, ["in_flight"],
                        " with rollout.max_staleness = 0, where nothing is in flight when weights change",
                        "set rollout.max_staleness to 1 or more")
    if wanted == "distributed":
        yield from idle("servers", servers, ["sync_folder"], f"{under} leaves nothing in folders",
                        "choose another")


def key_problems(start: Start) -> Iterator[Problem]:
    """Yields why the servers' API key cannot be read."""
    variable = start.config.servers.api_key_env
    if start.on_servers:
        yield from told("servers.api_key_env", variable,
                        lambda: key_of_setting("servers.api_key_env", variable, "the servers"))


def way_problems(start: Start) -> Iterator[Problem]:
    """Yields why servers could not be launched, or get no weights; nothing is started, and none is asked."""
    if start.on_servers:
        yield from told("rollout.backend", start.config.rollout.backend,
                        lambda: start.bridge.check_way_to_servers(start.config, start.model))
