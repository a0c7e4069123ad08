"""The names by which a server is asked. A page of another site whose name was made to point here (DNS
rebinding) has that name in its requests' Host."""
from typing import Any

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.paths import shortened


def header_values(scope: Any, wanted: bytes) -> list[str]:
    """The values of a header, however often it is there."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def is_own_name(host: str) -> bool:
    """Whether a Host header names this machine alone."""
    return is_loopback(_name(host))


def wrong_name(hosts: list[str], what: str) -> str:
    """The refusal of a request under other names, to a server that is called `what`."""
    return (f"The Host header is {shortened(', '.join(hosts))}; this {what} is only for this machine. Open "
            "it as http://127.0.0.1 or http://localhost, with its port.")


def _name(host: str) -> str:
    """A Host header without its port, and without the brackets of an IPv6 address."""
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isascii() and port.isdigit() else host
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name.lower()
