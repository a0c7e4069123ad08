"""Mathematics beyond numbers: answers are compared by the package math-verify."""
from jaxrl_moe.envs.math.task import Mathematics

__all__ = ["Mathematics"]
