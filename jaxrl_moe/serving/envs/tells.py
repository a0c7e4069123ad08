"""What an episode tells beside its messages, as attributes of its Env: AgentGym's formats show some of it in
fields of its own."""
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_moe.protocols import Env
from jaxrl_moe.spelling import cut

Tells = Mapping[str, Callable[[Any], Any]]  # {attribute: what checks it, and gives it as JSON}


class Untold(Exception):
    """An Env lacks what is to be told, or has something else; the message goes on from "it"."""


def read(env: Env, tells: Tells) -> dict[str, Any]:
    """{attribute: what it is now}.

    Raises:
      Untold: the Env lacks one, or it is something else.
    """
    return {name: _one(env, name, check) for name, check in tells.items()}


def _one(env: Env, name: str, check: Callable[[Any], Any]) -> Any:
    try:
        value = getattr(env, name)
    except AttributeError as error:
        raise Untold(f"has no attribute `{name}`, which this wire format shows: choose another by "
                     "--wire, or give its Env one") from error
    try:
        return check(value)
    except TypeError as error:
        raise Untold(f"tells {cut(repr(value))} as `{name}`; {error} is needed") from error


def word(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def texts(value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise TypeError("a list of texts")
    return list(value)


def buttons(value: Any) -> dict[str, Any]:
    """What can be done on a page of WebShop's: {"has_search_bar", "clickables"}."""
    if not isinstance(value, Mapping) or value.keys() != {"has_search_bar", "clickables"} or not isinstance(
            value["has_search_bar"], bool):
        raise TypeError("{\"has_search_bar\": whether there is one, \"clickables\": a list of texts}")
    return {"has_search_bar": value["has_search_bar"], "clickables": texts(value["clickables"])}
