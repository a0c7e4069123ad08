"""Completes prompts with a model folder, and an adapter if one is given.

    python scripts/generate.py --model=runs/quickstart/model --prompt="Ann has 3 apples and gets 4 more."
    python scripts/generate.py --model=Qwen/Qwen3-0.6B --adapter=runs/gsm8k/adapter --prompt="..." --n=4

The prompt becomes one user message under the chat template; --raw gives it to the model as it is.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

from absl import flags

import bridges
from jaxrl_moe import cli
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.engine.generate import generate_texts
from jaxrl_moe.options import define_number, define_path
from jaxrl_moe.types import SamplingParams

MODEL = define_path("model", None, "HF checkpoint folder or hub name (required)")
ADAPTER = define_path("adapter", None, "PEFT adapter to lay over the model")
PROMPT = flags.DEFINE_multi_string("prompt", [], "text to complete; may be given several times")
SYSTEM = flags.DEFINE_string("system", "", "system message before the prompt")
RAW = flags.DEFINE_bool("raw", False, "no chat template")
N = define_number("n", 1, "completions of each prompt", 1)
MAX_TOKENS = define_number("max_tokens", 256, "most tokens of a completion", 1)
TEMPERATURE = define_number("temperature", 0.0, "0 is greedy", 0, 100)
TOP_P = define_number("top_p", 1.0, "smallest set of tokens that holds this much probability", 1e-6, 1)
TOP_K = define_number("top_k", 0, "only the likeliest k tokens; 0: all")
MIN_P = define_number("min_p", 0.0, "only tokens at least this likely, relative to the likeliest", 0, 1)
SEED = define_number("seed", 0, "of the draws")


def main() -> None:
    cli.require(MODEL, PROMPT)
    tokenizer = load_tokenizer(MODEL.value)
    tokenizer.check_vocabulary(bridges.model_config(MODEL.value).vocab_size)
    lora = bridges.read_lora(ADAPTER.value) if ADAPTER.value else None
    model = bridges.load_model(MODEL.value, lora=lora)
    if lora:
        bridges.import_adapter(model, ADAPTER.value)
    params = SamplingParams(MAX_TOKENS.value, TEMPERATURE.value, TOP_P.value, TOP_K.value, MIN_P.value,
                            n=N.value)
    completions = generate_texts(model, tokenizer, PROMPT.value, params, system=SYSTEM.value, raw=RAW.value,
                                 seed=SEED.value)
    for prompt, texts in zip(PROMPT.value, completions):
        for text in texts:
            print(f"--- {prompt}\n{text}")


if __name__ == "__main__":
    cli.run(main, recipe=False, compiled=True)
