"""A server in a thread on loopback, and the clients that ask it."""
import contextlib
import types

import httpx2
import openai

from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.models import Models
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.server import HttpServer


@contextlib.contextmanager
def serving(front, tokenizer, *, load=None, api_key="", **options):
    """A server with the tiny model named "tiny": its url, an openai client, an httpx client and the
    service."""
    service = Service(front, tokenizer, Models(front, "tiny", "", load), **options)
    with HttpServer(service, make_app, api_key=api_key, grace=5) as server:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with (openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key or "none", max_retries=0, timeout=60)
              as client, httpx2.Client(base_url=server.url, headers=headers, timeout=60) as http):
            yield types.SimpleNamespace(url=server.url, openai=client, http=http, service=service)
