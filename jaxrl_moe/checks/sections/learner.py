"""Settings of what learns: the critic, the adapters, the routers, and what lies on the host meanwhile."""
import dataclasses
import warnings
from collections.abc import Iterator

from jaxrl_moe.checks.problems import changed, idle, unknown
from jaxrl_moe.config import Config
from jaxrl_moe.expressions import ExpressionError, Expressions
from jaxrl_moe.learning.programs import OFFLOAD
from jaxrl_moe.learning.state import ROUTER, trains_router
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.rl.advantages import ADVANTAGES, find_advantage
from jaxrl_moe.types import Problem

_AGAINST_KL = "shares, so algorithm.kl_coef = {} would measure against a moving reference"


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields settings of adapters and routers that cannot work together, in whatever phase."""
    yield from _of_adapters(config)
    yield from _of_routers(config)


def _of_adapters(config: Config) -> Iterator[Problem]:
    lora = config.lora
    kl_coef = config.algorithm.kl_coef
    if lora.rank > 0 and not lora.targets:
        yield Problem("lora.targets", None, "is empty while lora.rank > 0",
                      "name layers such as q_proj,v_proj or all-linear, or set lora.rank=0 to train all "
                      "weights")
    for target in lora.targets:
        yield from _bad_target(target)
    if lora.rank == 0:
        yield from idle("lora", lora, ("alpha", "rslora", "dropout"), ", as lora.rank = 0 trains all weights",
                        "set lora.rank above 0")
    if "reference" in config.train.offload and (lora.rank > 0 or kl_coef == 0):
        yield Problem("train.offload", None, "names 'reference', and this run keeps none: lora.rank = "
                      f"{lora.rank}, algorithm.kl_coef = {kl_coef:g}. Adapters are left out for their "
                      "reference",
                      "leave it out of train.offload, or set lora.rank=0 and algorithm.kl_coef above 0")


def _of_routers(config: Config) -> Iterator[Problem]:
    lora = config.lora
    moe = config.moe
    kl_coef = config.algorithm.kl_coef
    shares = "which the reference policy (the same weights with adapters off) " + _AGAINST_KL.format(kl_coef)
    if moe.router == "train" and lora.rank > 0 and kl_coef > 0:
        yield Problem("moe.router", "train", f"moves the routers, {shares}",
                      "set algorithm.kl_coef=0, or moe.router=freeze")
    if moe.bias_rate > 0 and kl_coef > 0 and lora.rank > 0:
        yield Problem("moe.bias_rate", moe.bias_rate, f"moves the routers' selection bias, {shares}",
                      "set algorithm.kl_coef=0, or moe.bias_rate=0")
    if moe.replay == "r2" and config.algorithm.bypass:
        yield Problem("moe.replay", "r2",
                      "takes the routes of the old-logprob pass, which algorithm.bypass leaves out",
                      "set moe.replay=r3, or algorithm.bypass=false")


def _bad_target(target: str) -> Iterator[Problem]:
    try:
        Expressions("lora.targets").compile(target)
    except ExpressionError as error:
        yield Problem("lora.targets", None,
                      f"holds {target!r}, which is neither a layer's name nor a regular expression ({error})",
                      "name layers such as q_proj,v_proj, use all-linear, or write an expression such as "
                      ".*_proj")


def unknown_offload(config: Config) -> Iterator[Problem]:
    """Yields names of train.offload that there are not."""
    for name in config.train.offload:
        yield from unknown("train.offload", name, OFFLOAD)


def critic_problems(config: Config) -> Iterator[Problem]:
    """Yields settings of a critic or of discounting that the advantage would not read."""
    algorithm = config.algorithm
    row = find_advantage(config.algorithm.advantage)
    without = f"algorithm.advantage = {algorithm.advantage!r}"
    for field in dataclasses.fields(config.critic) if not row.critic else ():
        if changed(config.critic, field.name):
            yield Problem(f"critic.{field.name}", getattr(config.critic, field.name),
                          f"has no effect, as {without} has no critic",
                          "choose one that has "
                          f"({', '.join(name for name, other in ADVANTAGES.items() if other.critic)}), or "
                          f"leave it at {field.default!r}")
    if algorithm.truncated == "bootstrap" and row.critic != "token":
        yield Problem("algorithm.truncated", "bootstrap",
                      f"goes on with a critic's value at the cut, and {without} has no value a token",
                      "choose gae, or algorithm.truncated=keep")
    if row.critic != "token":
        yield from idle("algorithm", algorithm, ["lam"],
                        f", as {without} is no generalised advantage estimation", "choose gae")
    if not row.per_token:
        discounting = " or ".join(name for name, other in ADVANTAGES.items() if other.per_token)
        yield from idle("algorithm", algorithm, ["gamma"], f", as {without} gives one value to a whole "
                        "completion (the discount from turn to turn is algorithm.turn_gamma)",
                        f"choose {discounting}")


def router_problems(config: Config, model: ModelConfig) -> Iterator[Problem]:
    """Yields settings of the moe section that the model cannot follow."""
    moe = config.moe
    path = config.model.path
    chosen = [field.name for field in dataclasses.fields(moe) if changed(moe, field.name)]
    if not any(model.sparse_layers):
        for name in chosen:
            yield Problem(f"moe.{name}", getattr(moe, name),
                          f"concerns routers, and the model {path!r} is dense, it has none",
                          "leave the moe section as it is, or take a Mixture-of-Experts model")
    if moe.bias_rate > 0 and not model.router_bias:
        yield Problem("moe.bias_rate", moe.bias_rate,
                      f"moves the routers' selection bias, and the model {path!r} has none",
                      "set moe.bias_rate=0 and balance by moe.aux_loss_coef, or take a model that has one; "
                      "scratch.router_bias=true makes one from scratch")


def warn_of_router(config: Config, model: ModelConfig) -> None:
    """Warns of routers trained without the balancing that their checkpoint asks for, or not trained."""
    moe = config.moe
    path = config.model.path
    rank = config.lora.rank
    if not any(model.sparse_layers):
        return
    trained = trains_router(rank > 0, ROUTER[moe.router])
    asked = model.router_aux_loss_coef
    if trained and asked > 0 and not (moe.aux_loss_coef or moe.bias_rate):
        warnings.warn(f"This run trains the routers of {path!r} without balancing them, and the checkpoint "
                      f"asks for router_aux_loss_coef = {asked:g}: set moe.aux_loss_coef={asked:g} to apply "
                      "it, or moe.router=freeze to leave the routers as they are. Watch moe/max_vio.",
                      stacklevel=2)
    if not trained and (moe.aux_loss_coef or moe.z_loss_coef):
        warnings.warn(f"The routers are frozen (moe.router = {moe.router!r}, lora.rank = {rank}), so "
                      "moe.aux_loss_coef and moe.z_loss_coef train the layers below them instead, and bend "
                      "what these hand to the routers. Set moe.router=train if the routers shall learn it, "
                      "or both coefficients to 0.", stacklevel=2)
