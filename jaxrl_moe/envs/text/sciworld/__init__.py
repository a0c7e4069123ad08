"""ScienceWorld: tasks of an elementary school's science lessons, in a house of rooms. Needs Java and the
extra `agents`."""
from jaxrl_moe.envs.text.sciworld.task import SciWorld

__all__ = ["SciWorld"]
