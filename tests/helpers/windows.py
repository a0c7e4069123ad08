"""Programs that stand in for servers and a run, and a process that supervises them:

    python -m tests.helpers.windows FOLDER NAME=BEHAVIOUR ...

It writes FOLDER/launch.json as scripts/launch/tmux.py does.
"""
import pathlib
import sys

from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.serving.windows.program import Program
from jaxrl_moe.serving.windows.session import report
from jaxrl_moe.serving.windows.supervisor import Supervisor, Teller

SERVES = """
import http.server, os, signal, subprocess, sys, threading, time
name, folder, port, behaviour = sys.argv[1:]
note = lambda what: open(f"{folder}/events", "a").write(f"{name} {what}\\n")
note("started")
def end(*_):
    note("asked to end")
    if "stubborn" not in behaviour:
        os._exit(0)
signal.signal(signal.SIGTERM, end)
print(name, "says hello", flush=True)
if "orphan" in behaviour:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleep, start_new_session=True)
    open(f"{folder}/orphan", "w").write(str(child.pid))
if "fails" in behaviour:
    print("no memory is left", flush=True)
    os._exit(7)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "ill" in behaviour else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
if port != "0":
    server = http.server.HTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
time.sleep(0.3)
if "ends" in behaviour:
    os._exit(0)
if "dies" in behaviour:
    print("a fault\\nof its own", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    time.sleep(0.05)
"""


def program(folder, name, behaviour):
    """A program that behaves so; the one called "train" serves nothing."""
    port = 0 if name == "train" else free_port()
    command = [sys.executable, "-S", "-c", SERVES, name, str(folder), str(port), behaviour]
    health = f"http://127.0.0.1:{port}/health" if port else ""
    return Program(name, command, folder / f"{name}.log", health)


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    given = dict(word.split("=") for word in sys.argv[2:])
    report(root / "launch.json")
    with Teller(root / "launch.log") as said:
        ended = Supervisor([program(root, *each) for each in given.items()], start_seconds=5, grace=1,
                           say=said).run()
    report(root / "launch.json", code=ended)
    sys.exit(ended)
