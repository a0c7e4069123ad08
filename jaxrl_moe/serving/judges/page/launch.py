"""The judges' page, put together; scripts/serve.py judge-page calls it."""
import dataclasses
import pathlib
import urllib.parse

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.judges.queue.queue import Queue
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.serving.judges.page.app import JudgePage, make_page
from jaxrl_moe.serving.judges.page.sessions import PageSessions
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError

_SQLITE = "sqlite:///"
_GRACE = 5.0  # seconds that requests at work have at the end


@dataclasses.dataclass(frozen=True)
class PageOptions:
    """queue: URL of the database; sessions: file of the logins, "" for one beside an SQLite database;
    public_url: under which browsers reach the page, where another server does TLS before it; lease: seconds
    that an item is in a judge's hands; gold_share, uncertain_first: which items come, see SqlQueue."""
    queue: str
    sessions: str = ""
    host: str = "127.0.0.1"
    port: int = 8104
    public_url: str = ""
    lease: float = 1200.0
    gold_share: float = 0.0
    uncertain_first: bool = False


def serve_page(options: PageOptions) -> None:
    """Serves the page until SIGTERM or SIGINT.

    Raises:
      UserError: an option does not fit, the queue cannot be opened, or the address cannot be taken.
    """
    from jaxrl_moe.judges.queue.sql import SqlQueue  # which needs SQLAlchemy, and says so
    public_url = _public_url(options)
    file = _sessions_file(options)
    queue = SqlQueue(options.queue, gold_share=options.gold_share, uncertain_first=options.uncertain_first)
    server = make_server(queue, file, options, public_url)
    print(f"Judges come in at {public_url or server.url}", flush=True)
    server.run()
    print("Stopped; what was answered is kept.", flush=True)


def make_server(queue: Queue, file: pathlib.Path, options: PageOptions, public_url: str = "") -> HttpServer:
    """The server, which listens already; it closes the queue, also where it cannot be made."""
    try:
        sessions = PageSessions(file)
    except UserError:
        queue.close()
        raise
    page = JudgePage(queue, sessions, options.lease, public_url)
    return HttpServer(page, make_page, host=options.host, port=options.port, grace=_GRACE, logins=True,
                      proxied=bool(public_url))


def _public_url(options: PageOptions) -> str:
    """The public URL, checked; "" where only this machine reaches the page."""
    if not options.public_url:
        if not is_loopback(options.host):
            raise UserError(f"On --host={options.host} other machines can reach the page. Say under which "
                            "address they do, as --public_url=https://judges.example.org, with a server "
                            "before it that does TLS; or listen on 127.0.0.1.")
        return ""
    url = checked_url(options.public_url, "--public_url", "https://host")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or parts.path:
        raise UserError(f"--public_url={url} must be https://host or https://host:port: tokens and cookies "
                        "are not to cross a network in the clear, and the page is at its server's root.")
    return url


def _sessions_file(options: PageOptions) -> pathlib.Path:
    """Where the logins are kept."""
    if options.sessions:
        return pathlib.Path(options.sessions)
    path = options.queue.removeprefix(_SQLITE).partition("?")[0]
    if not options.queue.startswith(_SQLITE) or not path or path == ":memory:":
        raise UserError("The queue is no file beside which the page's logins could be kept. Name a file for "
                        "them, as --sessions=judges/sessions.json.")
    return pathlib.Path(f"{path}.sessions")
