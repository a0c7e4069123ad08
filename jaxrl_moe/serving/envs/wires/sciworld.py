"""ScienceWorld's: scores from -100 to 100, and the task's description beside the first observation."""
from typing import Any

from jaxrl_moe.serving.envs.session import Shown
from jaxrl_moe.serving.envs.tells import word
from jaxrl_moe.serving.envs.wires.wire import Wire, told

POINTS = 100  # of a whole episode; its rewards sum to 1
_INSIDE = "This server does not tell what the game knows beside its observations."
_PICTURES = "This server sends no pictures: read the observation."


def _points(share: float) -> float:
    return round(POINTS * share, 6)


def _score(shown: Shown) -> float:
    """As the game tells it, which has -100 for a wrong focus; else what the rewards sum to."""
    told_of = shown.info or {}
    return told_of["score"] if "score" in told_of else _points(shown.score)


def _begun(_: int, shown: Shown) -> dict[str, Any]:
    description = shown.told["task_description"]
    observation = shown.observation.removeprefix(f"{description}\n")
    return {"task_description": description, "observation": observation, "reward": _points(shown.reward),
            "score": _score(shown), "deleted": False, "done": shown.done}


def _stepped(_: int, shown: Shown) -> dict[str, Any]:
    return told(shown, "observation", "done") | {"reward": _points(shown.reward), "score": _score(shown)}


def _described(shown: Shown) -> dict[str, str]:
    return {"task_description": shown.told["task_description"]}


SCIWORLD = Wire(_begun, _stepped, tells={"task_description": word},
                looks={"/observation": lambda shown: shown.observation, "/task_description": _described},
                unserved={"/step_visual": _PICTURES, "/action_hint": _INSIDE, "/goals": _INSIDE,
                          "/detail": _INSIDE, "/object_tree": _INSIDE, "/state": _INSIDE})
