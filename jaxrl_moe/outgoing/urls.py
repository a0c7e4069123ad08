"""Addresses of servers: what is one, and which of them a stranger may have called."""
import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Sequence

from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def checked_url(url: str, name: str, form: str) -> str:
    """The URL of a server without a slash at its end; raises UserError for what is none.

    Args:
      name: of the setting.
      form: that it needs.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urllib.parse.urlsplit(url)
        host = _HOST.fullmatch(parts.hostname or "")
        fits = parts.scheme in ("http", "https") and host and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, a bracket that does not close
        fits = False
    if not fits or parts.query or parts.fragment or parts.username is not None or not url.isprintable():
        raise UserError(f"{name} = {quoted(url)} is no address of a server: write {form}.")
    return url


class Allowed:
    """URLs that somebody else names and this process may call: those on loopback, and those under prefixes
    that the operator names. Callers follow no redirects, which would lead elsewhere.

    Args:
      prefixes: as https://judges.example.org/v1; of a prefix the scheme, host and port must be the same, and
        the path must begin with its path, whole segments at a time.
      name: of the setting that has them, for messages.

    Raises:
      UserError: a prefix is no URL.
    """

    def __init__(self, prefixes: Sequence[str], name: str):
        self._name = name
        self._prefixes = [_parts(checked_url(each, name, "https://host/path")) for each in prefixes]

    def check(self, url: str) -> str:
        """The URL without a slash at its end.

        Raises:
          UserError: it is none, or may not be called.
        """
        url = checked_url(url, "the URL", "http://host:port/path")
        server, path = _parts(url)
        named = any(server == other and _under(path, prefix) for other, prefix in self._prefixes)
        if not named and server[1] not in _LOOPBACK:
            raise UserError(f"{quoted(url)} is not called: it is neither on loopback nor under an address of "
                            f"{self._name}. Name it there, if it is to be trusted.")
        if _is_link_local(server[1]):
            raise UserError(f"{quoted(url)} is not called: its host is a link-local address, where machines "
                            "keep their own secrets.")
        return url


def _parts(url: str) -> tuple[tuple[str, str, int], list[str]]:
    """((scheme, host, port), segments of the path) of a URL."""
    parts = urllib.parse.urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    return (parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]), segments


def _under(path: Sequence[str], prefix: Sequence[str]) -> bool:
    """Whether a path begins with another; none does that goes back up."""
    plain = urllib.parse.unquote("/".join(path)).replace("\\", "/")
    return ".." not in plain.split("/") and list(path[:len(prefix)]) == list(prefix)


def _is_link_local(host: str) -> bool:
    """Whether a host is, or any of its addresses is, link-local. One that cannot be found is none: to call it
    fails."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(each[4][0].partition("%")[0]) for each in found]
    plain = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return any(address.is_link_local for address in plain)
