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
from collections.abc import Iterator, Sequence

from absl import flags

from benchmarks import table
from benchmarks.adapters.cases import CASES, EXPECTED, Adapter, Case, make
from benchmarks.adapters.readers import NAMES, NOT_RUN, TOLERANCE, Read, absent, read, version
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

READERS = flags.DEFINE_list("readers", list(NAMES), "who reads: some of peft, vllm and sglang")
OUTPUT = flags.DEFINE_string("output", "benchmarks/adapters.md", "markdown file to write")
HEADER = ("adapter", "rank", "moves log-probs by", *NAMES.values())
HOW = f"""`make adapters`: adapters that this project exported, read by other software. A number is the largest
difference between its log-prob and ours of one token, in nats, in float32; at most {TOLERANCE:g} is right. "Moves log-probs
by" is what the adapter itself changes, largest and in nats, so that a reader which left it out, or took another scale, would
show. Random tiny models; vLLM and SGLang run on this machine's CPU, where neither can draw from experts with adapters.
"""


def main() -> None:
    unknown = set(READERS.value) - set(NAMES)
    if unknown or not READERS.value:
        raise ConfigError(f"--readers={','.join(READERS.value)}: give some of {', '.join(NAMES)}.")
    with tempfile.TemporaryDirectory() as folder:
        adapters = make(CASES, pathlib.Path(folder))
        readers = [reader for reader in READERS.value if not absent(reader)]
        results = {reader: read(reader, adapters, pathlib.Path(folder)) for reader in readers}
    wrong = list(problems(adapters, results))
    text = page(adapters, results)
    pathlib.Path(OUTPUT.value).write_text(text)
    print(text, *wrong, f"written to {OUTPUT.value}", sep="\n")
    sys.exit(1 if wrong else 0)


def problems(adapters: Sequence[Adapter], results: dict[str, dict[Case, Read]]) -> Iterator[str]:
    """What is not as it should be: an adapter in EXPECTED that was not read, and one that was read as
    something else."""
    for reader, reads in results.items():
        for adapter in adapters:
            case = adapter.case
            error = reads[case].error
            if error is None and adapter.folder and case.group in EXPECTED[reader]:
                yield f"{NAMES[reader]} does not read {case.name!r}: {reads[case].words}"
            elif error is not None and not error <= TOLERANCE:
                yield f"{NAMES[reader]} reads {case.name!r} as something else: {error:.1e} nats"


def page(adapters: Sequence[Adapter], results: dict[str, dict[Case, Read]]) -> str:
    """The whole of adapters.md."""
    lines = [line(adapter, results) for adapter in adapters]
    run = [f"{NAMES[reader]} {version(reader)}" for reader in results]
    others = [reader for reader in NAMES if reader not in results]
    left = [f"{NAMES[reader]} ({absent(reader) or 'not asked for'})" for reader in others]
    notes = f"Run: {', '.join(run) or 'none'}. Not run: {', '.join(left) or 'none'}.\n"
    return f"{table.heading('adapters')}{HOW}\n{notes}\n{table.rows(HEADER, lines)}"


def line(adapter: Adapter, results: dict[str, dict[Case, Read]]) -> list[str]:
    cells = [cell(results[reader][adapter.case]) if reader in results else NOT_RUN for reader in NAMES]
    if adapter.folder is None:
        cells = [f"not exported: {adapter.refusal}"] + [""] * (len(NAMES) - 1)
    moved = "" if adapter.folder is None else f"{adapter.moves:.1f}"
    return [adapter.case.name, str(adapter.case.lora.rank), moved, *cells]


def cell(found: Read) -> str:
    return found.words if found.error is None else f"{found.error:.0e}"


if __name__ == "__main__":
    cli.run(main, recipe=False)
