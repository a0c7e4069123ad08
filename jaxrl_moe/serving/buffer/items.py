"""What a rollout buffer holds: episodes that somebody has played, one item each."""
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.outside import Fields, OutsideError, as_object, kind, shown

LONGEST_NAME = 400     # characters of a uid and of an instance_id
MOST_MESSAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Item:
    """An episode.

    Attributes:
      uid: its own name, as JSON.
      group: the instance_id of its problem, as JSON, so that 3 and "3" are two.
      reward: a finite number of any size.
      body: all that was written, as ASCII JSON.
    """
    uid: str
    group: str
    reward: float
    body: str

    @property
    def digest(self) -> str:
        """The same for equal items, in whatever order their fields were written."""
        return hashlib.sha256(json.dumps(json.loads(self.body), sort_keys=True).encode()).hexdigest()


def read_item(value: Mapping[str, Any]) -> Item:
    """An item of the JSON {uid, instance_id, messages, reward, extra_info}; further fields are kept with it.

    Raises:
      OutsideError: it is none.
    """
    fields = Fields(value, "the item")
    uid = fields.string("uid")
    _check_name("uid", uid)
    _check_messages(fields.values.get("messages"))
    reward = fields.number("reward")
    fields.object("extra_info")
    instance = _instance(fields.values.get("instance_id"))
    return Item(json.dumps(uid), json.dumps(instance), reward, json.dumps(value))


def _instance(value: Any) -> int | str:
    if type(value) not in (int, str):
        raise OutsideError(f"the item: instance_id is {shown(value)} ({kind(value)}); a text or an integer "
                           "is needed.")
    _check_name("instance_id", str(value))
    return value


def _check_name(field: str, name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME:
        raise OutsideError(f"the item: {field} has {len(name)} characters; 1 to {LONGEST_NAME} are needed.")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not 0 < len(messages) <= MOST_MESSAGES:
        what = f"a list of {len(messages)}" if isinstance(messages, list) else kind(messages)
        raise OutsideError(f"the item: messages is {what}; a list of 1 to {MOST_MESSAGES} messages is "
                           "needed.")
    for number, message in enumerate(messages):
        where = f"the item: messages.{number}"
        Fields(as_object(message, where), where).string("role")
