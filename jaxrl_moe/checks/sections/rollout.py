"""Settings of the rollout, and of the endpoint beside it."""
import dataclasses
import socket
import warnings
from collections.abc import Iterator

from jaxrl_moe.checks.problems import idle, told
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.phases import longest_named, longest_rollout
from jaxrl_moe.types import Problem


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields settings that cannot work together, in whatever phase."""
    rollout = config.rollout
    endpoint = config.endpoint
    longest = longest_rollout(config)
    page = rollout.page_size
    if page & (page - 1):
        yield Problem("rollout.page_size", page, "is not a power of two", "use one, such as 32")
    if 0 < rollout.kv_tokens < longest + page:
        yield Problem("rollout.kv_tokens", rollout.kv_tokens, "cannot hold even one sequence: "
                      f"{longest_named(config)} = {longest} and one page of {page}",
                      "raise it, or set 0 to size the pool by itself")
    if endpoint.serve and rollout.backend != "jax":
        yield Problem("endpoint.serve", None, "is for the engine in this process, and rollout.backend = "
                      f"{rollout.backend!r} draws on servers, which can be asked themselves",
                      "set endpoint.serve=false, or rollout.backend=jax")
    if not endpoint.serve:
        names = [field.name for field in dataclasses.fields(endpoint) if field.name != "serve"]
        yield from idle("endpoint", endpoint, names, ", as endpoint.serve is false",
                        "set endpoint.serve=true")


def problems(config: Config) -> Iterator[Problem]:
    """Yields what speaks against an RL phase with these settings."""
    rollout = config.rollout
    algorithm = config.algorithm
    sequences = rollout.prompts_per_step * rollout.group_size
    if sequences % algorithm.minibatches:
        yield Problem("algorithm.minibatches", algorithm.minibatches,
                      "does not divide the batch of rollout.prompts_per_step x rollout.group_size = "
                      f"{rollout.prompts_per_step} x {rollout.group_size} sequences", "choose a divisor")
    yield from _of_dynamic_sampling(config)
    if rollout.max_staleness == 0:
        yield from idle("rollout", rollout, ["stragglers"],
                        " with rollout.max_staleness = 0, where drawing, grading and updating take turns",
                        "set rollout.max_staleness to 1 or more")
    if rollout.max_staleness and hosts.several():
        yield Problem("rollout.max_staleness", rollout.max_staleness,
                      "needs a trainer of one process, as what is drawn when would differ between "
                      "processes, and this job has several",
                      "set rollout.max_staleness=0, or train on the devices of one host")


def _of_dynamic_sampling(config: Config) -> Iterator[Problem]:
    rollout = config.rollout
    if rollout.dynamic_sampling and rollout.group_size == 1:
        yield Problem("rollout.dynamic_sampling", None,
                      "keeps groups whose rewards differ, and with rollout.group_size = 1 none can",
                      "set rollout.group_size to 2 or more, or rollout.dynamic_sampling=false")
    if rollout.dynamic_sampling and config.algorithm.drop_constant_groups:
        yield Problem("rollout.dynamic_sampling", None, "sets groups of equal rewards aside already",
                      "set algorithm.drop_constant_groups=false")
    if not rollout.dynamic_sampling:
        yield from idle("rollout", rollout, ["max_rounds"], ", as it bounds dynamic sampling, which is off",
                        "set rollout.dynamic_sampling=true")


def endpoint_problems(start: Start) -> Iterator[Problem]:
    """Yields why the endpoint could not be opened beside the training."""
    endpoint = start.config.endpoint
    if not (start.rl and endpoint.serve):
        return
    if hosts.several():
        yield Problem("endpoint.serve", None, "needs a job of one process, and this one has several",
                      "set endpoint.serve=false")
    yield from told("endpoint.api_key_env", endpoint.api_key_env,
                    lambda: key_of_setting("endpoint.api_key_env", endpoint.api_key_env, "the endpoint"))
    if not endpoint.api_key_env and not is_loopback(endpoint.host):
        yield Problem("endpoint.host", endpoint.host,
                      "can be reached from other machines, and the endpoint has no API key",
                      "name a variable that holds one by endpoint.api_key_env, or listen on 127.0.0.1")
    yield from _taken(endpoint.host, endpoint.port)


def _taken(host: str, port: int) -> Iterator[Problem]:
    """Listens there for a moment, as the endpoint would."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            yield Problem("endpoint.port", port,
                          f"cannot be listened on at endpoint.host = {host!r} ({error})",
                          "choose another host or port; port 0 takes a free one")


def warn_of_staleness(config: Config) -> None:
    """Warns of rollouts of older weights that nothing corrects for."""
    staleness = config.rollout.max_staleness
    algorithm = config.algorithm
    if staleness and not algorithm.bypass and not algorithm.corrections:
        warnings.warn(f"rollout.max_staleness = {staleness} trains on tokens of weights up to {staleness} "
                      "versions old, and the importance ratios start from the weights of the update, so "
                      "nothing weighs the difference: set algorithm.corrections=tis (or icepop), or "
                      "algorithm.bypass=true to have the ratios and their clipping start from the sampler's "
                      "log-probs. mismatch/* tells how large it is.", stacklevel=2)
