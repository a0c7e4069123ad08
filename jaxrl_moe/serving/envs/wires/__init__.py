"""What AgentGym's clients send to a server of each of its environments, and read from it: one row each."""
from jaxrl_moe.serving.envs.wires.alfworld import ALFWORLD
from jaxrl_moe.serving.envs.wires.babyai import BABYAI
from jaxrl_moe.serving.envs.wires.sciworld import SCIWORLD
from jaxrl_moe.serving.envs.wires.textcraft import TEXTCRAFT
from jaxrl_moe.serving.envs.wires.webshop import WEBSHOP
from jaxrl_moe.serving.envs.wires.wire import LONGEST_ACTION, Wire

WIRES = {"textcraft": TEXTCRAFT, "babyai": BABYAI, "alfworld": ALFWORLD, "sciworld": SCIWORLD,
         "webshop": WEBSHOP}

__all__ = ["LONGEST_ACTION", "WIRES", "Wire"]
