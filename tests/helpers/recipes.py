"""The recipes of configs/, loaded as --config loads them."""
from jaxrl_moe.recipes import SHIPPED, load, shipped

RECIPES = shipped()

__all__ = ["RECIPES", "load", "name_of"]


def name_of(path):
    """A recipe's path under configs/ without its ending, such as gsm8k/grpo."""
    return str(path.relative_to(SHIPPED).with_suffix(""))
