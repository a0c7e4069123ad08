"""TextCraft's: /create begins an episode already."""
from typing import Annotated, Any

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.wires.wire import ResetBody, Wire, told
from jaxrl_moe.serving.http.bodies import Strict
from jaxrl_moe.serving.openai.neutral import only


class CreateBody(Strict):
    """Of textcraft. AgentGym's client always names the folder that its own server reads."""
    commands: str | None = None
    goal: str | None = None
    minecraft_dir: Annotated[str | None, only("agentenv_textcraft/", reason="the server's recipes are those "
                                              "that it was started with")] = None

    def row(self) -> dict[str, Any]:
        """The row of the first episode: goal 0 unless the body has a goal of its own."""
        return self.model_dump(include={"commands", "goal"}, exclude_none=True) or {"id": 0}


class RecipesBody(ResetBody):
    """AgentGym's clients do not say of which recipes a goal is; the task agentgym does."""
    recipes: str | None = None

    def row(self) -> dict[str, Any]:
        beside = {} if self.recipes is None else {"recipes": self.recipes}
        return super().row() | beside


def _begun(number: int, shown: Shown) -> dict[str, Any]:
    return {"id": number} | told(shown, "observation", "done", "reward")


TEXTCRAFT = Wire(_begun, lambda _, shown: told(shown, "observation", "reward", "done"),
                 create_body=CreateBody, reset_body=RecipesBody)
