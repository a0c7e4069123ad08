"""Serves a model folder, and an adapter if one is given, over OpenAI's HTTP interface.

    python scripts/serve.py --model=runs/quickstart/model
    JAXRL_MOE_API_KEY=$(openssl rand -hex 24) python scripts/serve.py --model=Qwen/Qwen3-0.6B \\
        --max_lora_rank=16 --host=0.0.0.0

Needs the extra `serve`: pip install -e ".[serve]". Adapters are changed without a restart by POST
/v1/load_lora_adapter, if there is an API key and --max_lora_rank. SIGTERM ends it once the requests in flight
are answered.

Environments are served too, see python scripts/serve.py env --help.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import sys

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.options import define_number, define_path

ENV = sys.argv[1:2] == ["env"]  # a command with options of its own
ENV_HELP = """Serves the episodes of an environment over HTTP, as AgentGym's clients play them.

    python scripts/serve.py env --name=textcraft --port=8081
    python scripts/serve.py env --name="textcraft(recipes='small')" --port=8082

Needs the extras `serve` and `agents`: pip install -e ".[serve,agents]". GET /health says how many sessions
are open. SIGTERM ends it once the calls in flight are answered, and closes all sessions. A run plays them
with env.name="agentgym(env='textcraft', url='http://127.0.0.1:8081')". See docs/agents/servers.md.
"""

HOST = flags.DEFINE_string("host", "127.0.0.1", "address to listen on; one that others can reach needs an "
                                                "API key")
PORT = define_number("port", 8081 if ENV else 8000, "0 takes a free one", 0, 65535)
KEY_FILE = define_path("api_key_file", "", "file with the API key; empty: the variable JAXRL_MOE_API_KEY, or "
                                           "no key")
GRACE = define_number("grace", 30.0, "seconds that requests in flight have after SIGTERM", 1)
if ENV:
    NAME = flags.DEFINE_string("name", "", "of the environment, with its settings in brackets, as in "
                                           "env.name (required)")
    WIRE = flags.DEFINE_string("wire", "", "as which of AgentGym's environments it is served, textcraft or "
                                           "babyai; empty: as its name says")
    SESSIONS = define_number("sessions", 256, "that may be open at once; more are refused", 1, 10_000)
    IDLE = define_number("idle", 1800.0, "seconds after which a session that nobody uses expires", 0.1)
else:
    MODEL = define_path("model", None, "HF checkpoint folder or hub name (required)")
    ADAPTER = define_path("adapter", "", "PEFT adapter to lay over the model")
    NAME = flags.DEFINE_string("name", "", "of the model in requests; empty: its folder's")
    SLOTS = define_number("slots", 16, "samples drawn at once", 1)
    MAX_PROMPT_TOKENS = define_number("max_prompt_tokens", 1024,
                                      "prompts that the KV pool has room for in every slot", 1)
    MAX_TOKENS = define_number("max_tokens", 1024, "completions that it has room for; the limit of a chat "
                                                   "that names none", 1)
    DECODE_STEPS = define_number("decode_steps", 8, "tokens drawn between two looks at the clients", 1)
    MAX_QUEUE = define_number("max_queue", 256, "samples that may wait; more are refused with 429")
    MAX_LORA_RANK = define_number("max_lora_rank", 0, "room for adapters up to this rank; 0: none but "
                                                      "--adapter")
    SEED = define_number("seed", 0, "of the engine; with a request's seed it decides the tokens")
    RECORD = define_path("record", "", "JSONL file to append every call to, with its exact tokens and "
                                       "log-probs")
    WARMUP = flags.DEFINE_bool("warmup", False, "compile everything before the first request")


def serve_model():
    cli.require(MODEL)
    import bridges
    from jaxrl_moe.hosts.keys import key_of_file
    from jaxrl_moe.serving import launch  # after the flags: without the extra it says so
    launch.serve(
        launch.Options(model=MODEL.value, adapter=ADAPTER.value, name=NAME.value, host=HOST.value,
                       port=PORT.value, api_key=key_of_file(KEY_FILE.value), slots=SLOTS.value,
                       max_prompt_tokens=MAX_PROMPT_TOKENS.value, max_tokens=MAX_TOKENS.value,
                       decode_steps=DECODE_STEPS.value, max_queue=MAX_QUEUE.value,
                       max_lora_rank=MAX_LORA_RANK.value, seed=SEED.value, record=RECORD.value,
                       warmup=WARMUP.value, grace=GRACE.value), bridges)


def serve_env():
    cli.require(NAME)
    from jaxrl_moe.hosts.keys import key_of_file
    from jaxrl_moe.serving.envs import launch
    launch.serve_env(
        launch.EnvOptions(name=NAME.value, wire=WIRE.value, host=HOST.value, port=PORT.value,
                          api_key=key_of_file(KEY_FILE.value), sessions=SESSIONS.value, idle=IDLE.value,
                          grace=GRACE.value))


if __name__ == "__main__":
    if ENV:
        del sys.argv[1]
        cli.run(serve_env, recipe=False, document=ENV_HELP)
    else:
        cli.run(serve_model, recipe=False, compiled=True)
