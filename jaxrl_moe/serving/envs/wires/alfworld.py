"""ALFWorld's: every answer has the actions that the game would take, which its clients write into the
observation themselves."""
from typing import Any, Literal

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.tells import texts, word
from jaxrl_moe.serving.envs.wires.wire import IdBody, Number, Wire, told

ACTIONS = "\nAVAILABLE ACTIONS: "


class GameBody(IdBody):
    """Of AgentGym's three worlds our games know that of texts."""
    game: Number
    world_type: Literal["Text"]

    def row(self) -> dict[str, Any]:
        return {"id": self.game}


def _shown(shown: Shown) -> Shown:
    """Without the actions at the observation's end, which stand beside it."""
    actions = ACTIONS + ",".join(shown.told["available_actions"])
    return shown._replace(observation=shown.observation.removesuffix(actions))


def _begun(number: int, shown: Shown) -> dict[str, Any]:
    return {"id": number} | told(_shown(shown), "observation", "available_actions", "task_type")


ALFWORLD = Wire(_begun, lambda _, shown: told(_shown(shown), "observation", "reward", "available_actions",
                                              "done"),
                reset_body=GameBody, tells={"available_actions": texts, "task_type": word},
                looks={"/observation": lambda shown: _shown(shown).observation,
                       "/available_actions": lambda shown: shown.told["available_actions"]},
                unserved={"/detail": "This server keeps no details of a session: read its answers."})
