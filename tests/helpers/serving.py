"""A server in a thread on loopback, and the clients that ask it."""
import contextlib
import functools
import types

import httpx2
import openai

import bridges
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.models import Models
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.sessions.calls import SessionCalls
from jaxrl_moe.serving.sessions.routes import SECRET_PATHS, add_sessions
from tests.helpers.parity import randomise_adapters


@contextlib.contextmanager
def serving(front, tokenizer, *, load=None, api_key="", sessions=None, history="append", **options):
    """A server with the tiny model named "tiny": its url, an openai client, an httpx client and the service;
    with those sessions of agents, if any."""
    service = Service(front, tokenizer, Models(front, "tiny", "", load), **options)
    app = make_app
    if sessions is not None:
        add = functools.partial(add_sessions, calls=SessionCalls(service, sessions, history))
        app = functools.partial(make_app, add=add, secret_paths=SECRET_PATHS)
    with HttpServer(service, app, api_key=api_key, grace=5) as server:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with (openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key or "none", max_retries=0, timeout=60)
              as client, httpx2.Client(base_url=server.url, headers=headers, timeout=60) as http):
            yield types.SimpleNamespace(url=server.url, openai=client, http=http, service=service)


def adapter(folder, path, targets=("q_proj", "down_proj"), rank=2):
    """(a PEFT folder with a random adapter, the model under it)."""
    model = bridges.load_model(folder, lora=LoraConfig(rank, 8.0, targets=targets))
    randomise_adapters(model, 0.3)
    return str(bridges.export_adapter(model, path, base=folder)), model
