"""Everything that a server of its own needs, put together. scripts/serve.py hands in the bridges."""
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from jaxrl_moe import log_files
from jaxrl_moe.config import Config, RolloutSection
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.paths import is_folder, shortened
from jaxrl_moe.protocols import Bridge
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.openai.app import make_app
from jaxrl_moe.serving.openai.models import Load, Models
from jaxrl_moe.serving.openai.recorder import Recorder
from jaxrl_moe.serving.openai.service import Service
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.sessions.calls import SessionCalls
from jaxrl_moe.serving.sessions.routes import SECRET_PATHS, add_sessions
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """model, adapter: folders or hub names; name: of the model, "" for its folder's. max_lora_rank 0: no
    adapters but the one given. max_prompt_tokens and max_tokens size the KV pool; max_tokens also is the
    limit of a chat that names none."""
    model: str
    adapter: str = ""
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    slots: int = 16
    max_prompt_tokens: int = 1024
    max_tokens: int = 1024
    decode_steps: int = 8
    max_queue: int = 256
    max_lora_rank: int = 0
    seed: int = 0
    record: str = ""
    warmup: bool = False
    grace: float = 30.0


def serve(options: Options, bridge: Bridge) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
      UserError: a model, an adapter or an option that cannot be served.
    """
    _check(options)
    tokenizer = load_tokenizer(options.model)
    tokenizer.check_vocabulary(bridge.model_config(options.model).vocab_size)
    model, load = load_policy(options, bridge)
    settings = RolloutSection(slots=options.slots, max_tokens=options.max_tokens,
                              decode_steps=options.decode_steps)
    engine = JaxEngine(model, settings, max_prompt_tokens=options.max_prompt_tokens, seed=options.seed,
                       eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode)
    name = options.name or _last_part(options.model)
    recorder = Recorder(pathlib.Path(options.record)) if options.record else None
    with EngineFront(engine) as front:
        adapter = (_last_part(options.adapter), options.adapter) if options.adapter else None
        models = Models(front, name, options.model, load, adapter)
        service = Service(front, tokenizer, models, queue=options.max_queue, chat_tokens=options.max_tokens,
                          recorder=recorder)
        server = HttpServer(service, make_app, host=options.host, port=options.port,
                            api_key=options.api_key, grace=options.grace)
        if options.warmup:
            print(f"Compiled {front.ask(lambda engine: engine.warmup() + engine.warmup(truncate=True))} "
                  "programs.", flush=True)
        print(f"Serving {models.name!r} at {server.url}/v1", flush=True)
        server.run()
    print("Stopped; all requests in flight were answered or given up.")


@contextlib.contextmanager
def beside_training(config: Config, engine: JaxEngine, tokenizer: Tokenizer,
                    sessions: AgentSessions | None = None) -> Iterator[EngineFront]:
    """Serves the policy while it is trained, as the endpoint section says: the loop gets the front in place
    of the engine.

    Clients know the model as "policy" while versions pass. Calls wait for the first publish(). Where the
    episodes are played by agents, they take sessions here.

    Raises:
      UserError: the address cannot be taken, or the API key is not there.
    """
    options = config.endpoint
    record = pathlib.Path(config.run_dir) / log_files.SERVED
    key = key_of_setting("endpoint.api_key_env", options.api_key_env, "the endpoint")
    with EngineFront(engine, paused=True) as front:
        service = Service(front, tokenizer, Models(front, "policy"), queue=options.queue,
                          chat_tokens=config.rollout.max_tokens, recorder=Recorder(record))
        app = make_app
        if sessions is not None:
            calls = SessionCalls(service, sessions, config.episodes.history, options.public_url.rstrip("/"))
            app = functools.partial(make_app, add=functools.partial(add_sessions, calls=calls),
                                    secret_paths=SECRET_PATHS)
        with HttpServer(service, app, host=options.host, port=options.port, api_key=key) as server:
            print(f"Serving the policy as 'policy' at {server.url}/v1; calls are recorded in "
                  f"{record}.", flush=True)
            if sessions is not None:
                sessions.url = options.public_url.rstrip("/") or server.url
                print(f"Agents take the episodes by POST {sessions.url}/sessions.", flush=True)
            try:
                yield front
            finally:
                if sessions is not None:
                    sessions.close()  # whoever waits for one is told
            front.resume()  # the last update paused it; who still waits gets an answer by the last weights


def load_policy(options: Options, bridge: Bridge) -> tuple[Transformer, Load | None]:
    """The model, with room for adapters if they are wanted, and what reads the weights of a later one.

    Raises:
      UserError: a model or an adapter cannot be read, or the adapter does not fit into the room.
    """
    lora = bridge.read_lora(options.adapter) if options.adapter else None
    if options.max_lora_rank:
        if lora and lora.rank > options.max_lora_rank:
            raise UserError(f"The adapter {options.adapter!r} has rank {lora.rank}; raise "
                            f"--max_lora_rank={options.max_lora_rank} to it.")
        lora = LoraConfig(options.max_lora_rank, float(options.max_lora_rank))
    model = bridge.load_model(options.model, lora=lora)
    load = _loader(model, bridge) if options.max_lora_rank else None
    if options.adapter:
        bridge.import_adapter(model, options.adapter, subset=True)
    return model, load


def _loader(model: Transformer, bridge: Bridge) -> Load:
    """Reads adapters into a model of its own, which shares the arrays of the base: what is served changes by
    publish alone."""
    graphdef, state = nnx.split(model)
    base = _snapshot(state)
    spare = nnx.merge(graphdef, _snapshot(base))

    def load(path: str) -> Any:
        nnx.update(spare, _snapshot(base))  # without what another adapter, or half of one, has left
        if not path:
            bridge.draw_adapters(spare, 0)  # fresh ones change nothing
        elif not is_folder(path):
            raise UserError(f"There is no folder {shortened(path)} on the server's machine. Give the path of "
                            "a PEFT adapter's folder.")
        else:
            bridge.import_adapter(spare, path, subset=True)
        return _snapshot(nnx.state(spare))
    return load


def _snapshot(state: nnx.State):
    """The same arrays in variables of their own."""
    return jax.tree.map(lambda array: array, state)


def _check(options: Options):
    for name, least in (("slots", 1), ("max_prompt_tokens", 1), ("max_tokens", 1), ("decode_steps", 1),
                        ("max_queue", 0), ("max_lora_rank", 0), ("port", 0), ("grace", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name}={getattr(options, name)} must be at least {least}.")


def _last_part(path: str) -> str:
    return pathlib.Path(path).resolve().name if is_folder(path) else path
