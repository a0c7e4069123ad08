"""WebShop's: a session's number is its env_idx, and a goal's its session_id."""
from typing import Any

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.tells import buttons, word
from jaxrl_moe.serving.envs.wires.wire import Command, Number, Wire, told
from jaxrl_moe.serving.http.bodies import Strict


class ShopBody(Strict):
    env_idx: Number

    @property
    def session(self) -> int:
        """The session's number."""
        return self.env_idx


class ShopReset(ShopBody):
    """AgentGym's own servers draw a goal where session_id is null; these have none at random."""
    session_id: Number

    def row(self) -> dict[str, Any]:
        """The row of the episode."""
        return {"id": self.session_id}


class ShopStep(ShopBody):
    action: Command


def _stepped(_: int, shown: Shown) -> dict[str, Any]:
    return {"state": shown.observation, "info": None} | told(shown, "reward", "done")


WEBSHOP = Wire(lambda _, shown: [shown.observation, None], _stepped, session="env_idx",
               created=lambda number: number, reset_body=ShopReset, step_body=ShopStep, close_body=ShopBody,
               tells={"available_actions": buttons, "instruction_text": word},
               looks={"/observation": lambda shown: shown.observation,
                      "/available_actions": lambda shown: shown.told["available_actions"],
                      "/instruction_text": lambda shown: shown.told["instruction_text"]},
               hello="ok",
               unserved={"/state": "This server renders no web pages: read the observation.",
                         "/list_envs": "This server does not tell the sessions of others."})
