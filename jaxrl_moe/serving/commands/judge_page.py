"""Serves the page on which people judge what runs have put into the queue.

    python scripts/serve.py judge-page --queue=sqlite:///judges/queue.db --port=8104
    python scripts/serve.py judge-page --queue=postgresql+psycopg://judges@db/judges \\
        --sessions=judges/logins --public_url=https://judges.example.org

Needs the extras `serve` and `judges`: pip install -e ".[serve,judges]". Judges log in with the tokens that
`python scripts/judges.py` gives them, and stay logged in over restarts. Without --public_url only this
machine reaches the page; from another one, forward the port: ssh -L 8104:127.0.0.1:8104 HOST. With it, a
server before the page does TLS and passes the Host header on. SIGTERM ends it; nothing that was answered is
lost.
"""
from jaxrl_moe.options import define_number, define_path, define_switch, define_text

HOST = define_text("host", "127.0.0.1", "address to listen on; one that others can reach needs --public_url")
PORT = define_number("port", 8104, "0 takes a free one", 0, 65535)
QUEUE = define_text("queue", "", "URL of the queue's database, as sqlite:///PATH (required)")
SESSIONS = define_path("sessions", "", "file that keeps logins over restarts; empty: one beside an SQLite "
                                       "database")
PUBLIC_URL = define_text("public_url", "", "https address under which browsers reach the page through a "
                                           "server that does TLS")
LEASE = define_number("lease", 1200.0, "seconds that an item is a judge's, from when they last worked on it",
                      10, 86_400)
GOLD_SHARE = define_number("gold_share", 0.0, "of a judge's answers, the share on items whose right scores "
                           "are known; a new judge gets one first", 0, 1)
UNCERTAIN_FIRST = define_switch("uncertain_first", False, "items of which the AI judge is least sure come "
                                                          "first")
REQUIRED = (QUEUE,)


def main() -> None:
    from jaxrl_moe.serving.judges.page import launch  # after the flags: without the extra it says so
    launch.serve_page(
        launch.PageOptions(queue=QUEUE.value, sessions=SESSIONS.value, host=HOST.value, port=PORT.value,
                           public_url=PUBLIC_URL.value, lease=LEASE.value,
                           gold_share=GOLD_SHARE.value, uncertain_first=UNCERTAIN_FIRST.value))
