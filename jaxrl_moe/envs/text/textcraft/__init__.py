"""TextCraft: items are found, and crafted by recipes, until the goal is made."""
from jaxrl_moe.envs.text.textcraft.task import TextCraft

__all__ = ["TextCraft"]
