"""Serves a model folder, and an adapter if one is given, over OpenAI's HTTP interface.

    python scripts/serve.py --model=runs/quickstart/model
    JAXRL_MOE_API_KEY=$(openssl rand -hex 24) python scripts/serve.py --model=Qwen/Qwen3-0.6B \\
        --max_lora_rank=16 --host=0.0.0.0

Needs the extra `serve`: pip install -e ".[serve]". Adapters are changed without a restart by POST
/v1/load_lora_adapter, if there is an API key and --max_lora_rank. SIGTERM ends it once the requests in flight
are answered.

Other servers have commands of their own, with their --help: python scripts/serve.py env.
"""
from jaxrl_moe.hosts.keys import key_of_file
from jaxrl_moe.options import define_number, define_path, define_switch, define_text
from jaxrl_moe.protocols import Bridge
from jaxrl_moe.serving.commands import common

COMMON = common.define(port=8000)
MODEL = define_path("model", None, "HF checkpoint folder or hub name (required)")
ADAPTER = define_path("adapter", "", "PEFT adapter to lay over the model")
NAME = define_text("name", "", "of the model in requests; empty: its folder's")
SLOTS = define_number("slots", 16, "samples drawn at once", 1)
MAX_PROMPT_TOKENS = define_number("max_prompt_tokens", 1024,
                                  "prompts that the KV pool has room for in every slot", 1)
MAX_TOKENS = define_number("max_tokens", 1024, "completions that it has room for; the limit of a chat that "
                                               "names none", 1)
DECODE_STEPS = define_number("decode_steps", 8, "tokens drawn between two looks at the clients", 1)
MAX_QUEUE = define_number("max_queue", 256, "samples that may wait; more are refused with 429")
MAX_LORA_RANK = define_number("max_lora_rank", 0, "room for adapters up to this rank; 0: none but --adapter")
SEED = define_number("seed", 0, "of the engine; with a request's seed it decides the tokens")
RECORD = define_path("record", "", "JSONL file to append every call to, with its exact tokens and log-probs")
WARMUP = define_switch("warmup", False, "compile everything before the first request")
REQUIRED = (MODEL,)


def main(bridge: Bridge) -> None:
    from jaxrl_moe.serving import launch  # after the flags: without the extra it says so
    launch.serve(
        launch.Options(model=MODEL.value, adapter=ADAPTER.value, name=NAME.value, host=COMMON.host.value,
                       port=COMMON.port.value, api_key=key_of_file(COMMON.key_file.value), slots=SLOTS.value,
                       max_prompt_tokens=MAX_PROMPT_TOKENS.value, max_tokens=MAX_TOKENS.value,
                       decode_steps=DECODE_STEPS.value, max_queue=MAX_QUEUE.value,
                       max_lora_rank=MAX_LORA_RANK.value, seed=SEED.value, record=RECORD.value,
                       warmup=WARMUP.value, grace=COMMON.grace.value), bridge)
