"""The answer to POST /rollouts: what each episode came to, and all of them together."""
import json
import statistics
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.serving.rollouts.run import Played
from jaxrl_moe.spelling import cut
from jaxrl_moe.types import EnvError

LONGEST = 2000         # characters of an error, which may quote what a policy said
MOST_BYTES = 2**24 - 2**20  # of the answer's conversations: clients of ours read 2**24 bytes
LEFT_OUT = ("the conversations of this request are longer than an answer may be: ask for fewer ids at a time")


class Room:
    """What the conversations of an answer may still take."""

    def __init__(self) -> None:
        self.left = MOST_BYTES


def detail_of(number: int | str, played: Played, room: Room) -> dict[str, Any]:
    """What an episode came to, with its conversation while there is room for it."""
    last = played.steps[-1]
    told = {"id": number, "reward": played.reward, "success": played.success, "ended": played.ended,
            "truncated": played.ended != "done", "rounds": len(played.steps), "info": dict(last.info)}
    if last.notes:
        told["notes"] = dict(last.notes)
    experiences = played.experiences
    size = len(json.dumps(experiences))
    if size > room.left:
        return told | {"experiences": None, "left_out": LEFT_OUT}
    room.left -= size
    return told | {"experiences": experiences}


def failed_of(number: int | str, error: EnvError) -> dict[str, Any]:
    """What is said of an episode that failed, through no fault of the policy's answers: it has no reward."""
    return {"id": number, "reward": None, "success": False, "status": str(error.status),
            "error": cut(str(error), LONGEST)}


def answer_of(name: str, details: Sequence[dict[str, Any]], seconds: float) -> bytes:
    """The JSON of the whole, in ASCII: a policy may write halves of pairs. Means are over the episodes that
    were evaluated; null where none was."""
    sound = [each for each in details if "error" not in each]
    rewards = [each["reward"] for each in sound]
    successes = [float(each["success"]) for each in sound]
    whole = {"task_name": name, "total_score": statistics.fmean(rewards) if sound else None,
             "success_rate": statistics.fmean(successes) if sound else None, "num_evaluated": len(sound),
             "time_taken": seconds, "details": list(details)}
    return json.dumps(whole, allow_nan=False).encode()
