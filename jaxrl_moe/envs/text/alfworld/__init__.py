"""ALFWorld: tasks in the rooms of a house, in text. The games are played by the package alfworld in processes
and an environment of its own (`make alfworld`)."""
from jaxrl_moe.envs.text.alfworld.task import AlfWorld

__all__ = ["AlfWorld"]
