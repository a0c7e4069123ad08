"""A task that holds several."""
from jaxrl_moe.envs.mixture.task import Mixture

__all__ = ["Mixture"]
