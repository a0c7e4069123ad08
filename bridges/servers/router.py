"""Routers of SGLang: the servers behind one are talked to directly, as each needs its own weights, and its
own probe."""
import dataclasses

from bridges.servers.http import EngineError, Http, Unavailable
from jaxrl_moe.checks.sections.servers import server_problems
from jaxrl_moe.config import Config

SECONDS = 10.0  # that a router has to answer


def without_routers(config: Config, key: str) -> Config:
    """The configuration, with the servers behind it in place of each router that servers.urls names.

    Args:
      key: the servers' API key, or "".

    Raises:
      EngineError: a router knows no server, or what is behind it cannot be reached as the settings say.
    """
    urls = [server for url in config.servers.urls for server in _behind(url, key)]
    if tuple(urls) == config.servers.urls:
        return config
    config = dataclasses.replace(config, servers=dataclasses.replace(config.servers, urls=tuple(urls)))
    for problem in server_problems(config):
        raise EngineError(str(problem))
    return config


def _behind(url: str, key: str) -> list[str]:
    """The servers that a router tells of; of anything else, itself."""
    http = Http(url, api_key=key, timeout=SECONDS)
    try:
        answer = http.get("/workers")  # of sglang-router 0.3
    except (EngineError, Unavailable):
        return [url]
    finally:
        http.close()
    workers = answer.get("workers") if isinstance(answer, dict) else None
    if not isinstance(workers, list):
        return [url]
    servers = [worker["url"] for worker in workers if worker.get("worker_type", "regular") == "regular"]
    if not servers:
        raise EngineError(f"{url} is a router that knows no server which both reads prompts and decodes: "
                          "start it with --worker-urls, or name the servers themselves in servers.urls.")
    print(f"{url} is a router; the servers behind it get their weights and requests directly: "
          f"{', '.join(servers)}.")
    return servers
