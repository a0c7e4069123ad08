"""Addresses of servers: what is one, and which of them a stranger may have called."""
import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from jaxrl_moe.outgoing.addresses import looked_up, secretive
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import EnvError, Status, UserError

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


@dataclasses.dataclass(frozen=True)
class Target:
    """A server that may be called, at the addresses that were looked at.

    Attributes:
      url: as it was named, without a slash at its end.
      addresses: of its host, in the order in which they are tried.
    """
    url: str
    addresses: tuple[str, ...]

    @property
    def by_tls(self) -> bool:
        """Whether it is called by TLS."""
        return _parts(self.url)[0][0] == "https"

    def routes(self, url: str) -> Iterator[dict[str, Any]]:
        """For each address, what httpx is to be given for a URL of this server, so that it goes there
        whatever the host's name leads to by now; the server is still told the name, and TLS checks it."""
        parts = urllib.parse.urlsplit(url)
        server, _ = _parts(self.url)
        if _parts(url)[0] != server:
            raise ValueError(f"{url} is not of {self.url}")
        for address in self.addresses:
            host = f"[{address}]" if ":" in address else address
            there = parts._replace(netloc=f"{host}:{server[2]}").geturl()
            yield {"url": there, "headers": {"Host": parts.netloc},
                   "extensions": {"sni_hostname": server[1]} if self.by_tls else {}}


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
        """The URL without a slash at its end. A host that cannot be found passes: to call it fails.

        Raises:
          UserError: it is none, or may not be called.
        """
        return self._looked_at(url).url

    def target(self, url: str) -> Target:
        """The server at a URL, whose name is looked up here and nowhere later.

        Raises:
          EnvError: its host cannot be found.
          UserError: it is no URL, or may not be called.
        """
        target = self._looked_at(url)
        if not target.addresses:
            raise EnvError(Status.UNREACHABLE, f"{quoted(target.url)} cannot be reached: there is no such "
                           "host.")
        return target

    def _looked_at(self, url: str) -> Target:
        url = checked_url(url, "the URL", "http://host:port/path")
        server, path = _parts(url)
        named = any(server == other and _under(path, prefix) for other, prefix in self._prefixes)
        if not named and server[1] not in _LOOPBACK:
            raise UserError(f"{quoted(url)} is not called: it is neither on loopback nor under an address of "
                            f"{self._name}. Name it there, if it is to be trusted.")
        addresses = looked_up(server[1])
        why = next(filter(None, map(secretive, addresses)), "")
        if not named and not all(address.is_loopback for address in addresses):
            why = "leads to other machines, and not to this one"
        if why:
            raise UserError(f"{quoted(url)} is not called: its host {why}.")
        return Target(url, tuple(dict.fromkeys(map(str, addresses))))


def _parts(url: str) -> tuple[tuple[str, str, int], list[str]]:
    """((scheme, host, port), segments of the path) of a URL."""
    parts = urllib.parse.urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    return (parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]), segments


def _under(path: Sequence[str], prefix: Sequence[str]) -> bool:
    """Whether a path begins with another; none does that goes back up."""
    plain = urllib.parse.unquote("/".join(path)).replace("\\", "/")
    return ".." not in plain.split("/") and list(path[:len(prefix)]) == list(prefix)
