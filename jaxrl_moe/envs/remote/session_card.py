"""What a session of the run's endpoint says of itself, for servers that are to call it."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import EnvError, Status


def session_card(connection: Connection, base_url: str) -> Fields:
    """The model of a session: its `id`, and how its turns are drawn in `sampling`.

    Args:
      connection: without a key, since the endpoint is not whose the key is.
      base_url: of the session.

    Raises:
      EnvError: the endpoint does not answer, or names no model.
    """
    url = f"{base_url}/models"
    answer = connection.get(url, Status.UNREACHABLE)
    try:
        return Fields(_first(answer, url), f"The answer of {url}")
    except OutsideError as error:
        raise EnvError(Status.MALFORMED, str(error)) from error


def _first(answer: Any, url: str) -> Mapping[str, Any]:
    listed = Fields(answer, f"The answer of {url}").values.get("data")
    if not isinstance(listed, list) or not listed:
        raise OutsideError(f"The answer of {url} names no model.")
    return listed[0]
