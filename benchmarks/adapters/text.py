"""benchmarks/adapters.md, and what is wrong in it."""
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import table
from benchmarks.adapters.cases import EXPECTED, Adapter, Case
from benchmarks.adapters.readers import NAMES, NOT_RUN, TOLERANCE, Read, absent, version

Results = Mapping[str, Mapping[Case, Read]]  # {reader: {case: what became of it}}
HEADER = ("adapter", "rank", "moves log-probs by", *NAMES.values())
HOW = f"""`make adapters`: adapters that this project exported, read by other software. A number is the
largest difference between its log-prob and ours of one token, in nats, in float32; at most {TOLERANCE:g} is
right. "Moves log-probs by" is what the adapter itself changes, largest and in nats, so that a reader which
left it out, or took another scale, would show. Random tiny models; vLLM and SGLang run on this machine's
CPU, where neither can draw from experts with adapters.
"""


def problems(adapters: Sequence[Adapter], results: Results) -> Iterator[str]:
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


def page(adapters: Sequence[Adapter], results: Results) -> str:
    """The whole of adapters.md."""
    lines = [line(adapter, results) for adapter in adapters]
    run = [f"{NAMES[reader]} {version(reader)}" for reader in results]
    others = [reader for reader in NAMES if reader not in results]
    left = [f"{NAMES[reader]} ({absent(reader) or 'not asked for'})" for reader in others]
    notes = f"Run: {', '.join(run) or 'none'}. Not run: {', '.join(left) or 'none'}.\n"
    wrong = "".join(f"\nWRONG: {problem}.\n" for problem in problems(adapters, results))
    return f"{table.heading('adapters')}{HOW}\n{notes}\n{table.rows(HEADER, lines)}{wrong}"


def line(adapter: Adapter, results: Results) -> list[str]:
    cells = [cell(results[reader][adapter.case]) if reader in results else NOT_RUN for reader in NAMES]
    if adapter.folder is None:
        cells = [f"not exported: {adapter.refusal}"] + [""] * (len(NAMES) - 1)
    moved = "" if adapter.folder is None else f"{adapter.moves:.1f}"
    return [adapter.case.name, str(adapter.case.lora.rank), moved, *cells]


def cell(found: Read) -> str:
    return found.words if found.error is None else f"{found.error:.0e}"
