"""What other software makes of our adapters: PEFT, vLLM and SGLang read each kind, and their log-probs stand
beside ours.

    make adapters
    python -m benchmarks.adapters --readers=peft

Tiny random models in float32, a Mixture of Experts and a dense one, with adapters of several targets, ranks
and scales, drawn at random and exported as a run exports them. PEFT scores given sequences in this process;
vLLM and SGLang are started from .venv-vllm and .venv-sglang where these are (make .venv-vllm/.installed),
load the folder while they run, and draw from it. The table in benchmarks/adapters.md has the largest
difference of a log-prob, or the words by which an adapter is refused; the exit code is 1 where a reader that
should read an adapter does not, or reads it as something else. Needs the extra `test`.
"""
import pathlib
import sys
import tempfile

from absl import flags

from benchmarks.adapters.cases import CASES, make
from benchmarks.adapters.readers import NAMES, absent, read
from benchmarks.adapters.text import page, problems
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

READERS = flags.DEFINE_list("readers", list(NAMES), "who reads: some of peft, vllm and sglang")
OUTPUT = flags.DEFINE_string("output", "benchmarks/adapters.md", "markdown file to write")


def main() -> None:
    unknown = set(READERS.value) - set(NAMES)
    if unknown or not READERS.value:
        raise ConfigError(f"--readers={','.join(READERS.value)}: give some of {', '.join(NAMES)}.")
    with tempfile.TemporaryDirectory() as folder:
        adapters = make(CASES, pathlib.Path(folder))
        readers = [reader for reader in READERS.value if not absent(reader)]
        results = {reader: read(reader, adapters, pathlib.Path(folder)) for reader in readers}
    text = page(adapters, results)
    pathlib.Path(OUTPUT.value).write_text(text)
    print(text, f"written to {OUTPUT.value}", sep="\n")
    sys.exit(1 if list(problems(adapters, results)) else 0)


if __name__ == "__main__":
    cli.run(main, recipe=False)
