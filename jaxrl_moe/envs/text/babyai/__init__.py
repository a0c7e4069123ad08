"""BabyAI as text: minigrid's levels, described in words and acted on in words. Needs the extra `agents`."""
from jaxrl_moe.envs.text.babyai.task import BabyAI

__all__ = ["BabyAI"]
