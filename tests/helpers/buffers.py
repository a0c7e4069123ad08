"""Rollout buffers in threads and in processes of their own, and items for them."""
import contextlib
import os
import pathlib
import re
import subprocess
import sys

import httpx

from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.buffer.app import make_app
from jaxrl_moe.serving.buffer.groups import Rules
from jaxrl_moe.serving.buffer.items import read_item
from jaxrl_moe.serving.buffer.playing import Playing
from jaxrl_moe.serving.buffer.service import BufferService
from jaxrl_moe.serving.buffer.store import Store
from jaxrl_moe.serving.server import HttpServer

ROOT = pathlib.Path(__file__).resolve().parents[2]


def written(uid, instance=0, reward=1.0, **others):
    """An item as it is written."""
    messages = [{"role": "user", "content": "Write a kernel."}, {"role": "assistant", "content": f"{uid}"}]
    return {"uid": f"{uid}", "instance_id": instance, "messages": messages, "reward": reward,
            "extra_info": {"level": 1}} | others


def item(uid, instance=0, reward=1.0):
    return read_item(written(uid, instance, reward))


@contextlib.contextmanager
def buffer_server(path, *, rules=None, task=None, files=(), api_key="", allow=(), **options):
    """(http client with the key, what is served) of a buffer in a file; with a task it plays that."""
    store = Store(str(path), rules or Rules(2))
    playing = Playing(task, "guessing", files, store, Allowed(allow, "--allow_base_url"),
                      **options) if task else None
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with HttpServer(BufferService(store, playing), make_app, api_key=api_key, grace=1) as server:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            yield http, store


class BufferProcess:
    """scripts/serve.py buffer in a process of its own, on one port through all its lives."""

    def __init__(self, path, *options):
        self._path = path
        self._options = options
        self.url = ""
        self.start()

    def start(self):
        """Returns once it serves."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "scripts/serve.py", "buffer", f"--path={self._path}", f"--port={port}",
                   "--grace=1", *self._options]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                                        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.url = re.search(r"http://[^:]+:\d+", self.process.stdout.readline())[0]

    def kill(self):
        """By SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def end(self):
        """By SIGTERM; (exit code, what it said at last)."""
        self.process.terminate()
        said = self.process.communicate(timeout=60)[0]
        return self.process.returncode, said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
