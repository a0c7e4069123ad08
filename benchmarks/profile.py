"""Where the time of the benchmarked programs of ours goes, by the functions of this package that asked for
it.

Two sources from one run: jax.profiler's trace says how long each operation of the compiled program took, and
XLA's text of the program says which lines each operation came from. A fused operation counts for the line of
its last part. Times are of one thread: parts that run beside each other add up to more than the wall time.
"""
import collections
import glob
import gzip
import importlib
import json
import multiprocessing
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.table import rows

RUNS = 3  # traced calls
SHOWN = 14  # lines of a table
CONTROL = ("while", "call", "conditional")  # their time is that of the operations inside
CASES = (("train_step", "case", dict(experts=64, active=8)),
         ("train_step", "case", dict(experts=64, active=8, expert_lora=False)), ("decode", "batch_case", {}))


def table() -> str:
    return "\n".join(_in_process(*case) for case in CASES)


def _in_process(*case: Any) -> str:
    """XLA reads its flags once a process."""
    with tempfile.TemporaryDirectory() as folder:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        receive, send = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=(send, folder, *case))
        try:
            process.start()
        finally:
            os.environ["XLA_FLAGS"] = flags
        send.close()
        try:
            return receive.recv()
        except EOFError:
            raise RuntimeError(f"profile of {case}: the process ended early; its error is above") from None
        finally:
            process.join()


def _measure(pipe: Connection, folder: str, module: str, function: str, settings: Mapping[str, Any]) -> None:
    import jax
    module = importlib.import_module(f"benchmarks.{module}")
    case = getattr(module, function)(**settings)
    run = module.ours(**case.settings)
    run()
    alone = min(_seconds(run) for _ in range(RUNS))
    with jax.profiler.trace(folder):
        for _ in range(RUNS):
            run()
    spent, total = _spent(folder)
    lines = [(f"{1e3 * seconds / RUNS:.1f}", f"{count / RUNS:.0f}", where)
             for where, (seconds, count) in spent.most_common(SHOWN)]
    shown = sum(seconds for _, (seconds, _) in spent.most_common(SHOWN))
    lines.append((f"{1e3 * (total - shown) / RUNS:.1f}", "", "everything else"))
    pipe.send(f"## {case.name}: {1e3 * alone:.0f} ms of wall time, {1e3 * total / RUNS:.0f} ms of operations "
              "when traced\n\n"
              + rows(("ms", "operations", "caller > function"), lines))


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _spent(folder: str) -> tuple[collections.Counter, float]:
    """(Counter of (seconds, operations) by place, seconds in all)."""
    places = {}
    for path in glob.glob(f"{folder}/*after_optimizations.txt"):
        name = pathlib.Path(path).name.split(".")[1]
        places.setdefault(name, {}).update(origins(pathlib.Path(path).read_text()))
    trace, = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
    spent = collections.Counter()
    with gzip.open(trace) as file:
        for event in json.load(file)["traceEvents"]:
            op = event.get("args", {}).get("hlo_op")
            if event.get("ph") == "X" and op and not op.startswith(CONTROL):
                where = places.get(event["args"]["hlo_module"], {}).get(op, "no line of the package")
                seconds, count = spent[where] or (0.0, 0)
                spent[where] = seconds + 1e-6 * event["dur"], count + 1
    return spent, sum(seconds for seconds, _ in spent.values())


def origins(text: str) -> dict[str, str]:
    """For each operation of a compiled program, the two innermost functions of the package that it comes
    from."""
    names = _section(text, "FunctionNames", r'(\d+) "(.*)"')
    files = _section(text, "FileNames", r'(\d+) "(.*)"')
    locations = _section(text, "FileLocations", r"(\d+) \{file_name_id=(\d+) function_name_id=(\d+)")
    frames = _section(text, "StackFrames", r"(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")

    def chain(frame: str) -> str:
        labels = []
        while frame in frames and len(labels) < 2:
            location, parent = frames[frame]
            file, function = locations[location]
            name = names[function][0].replace(".<locals>", "").replace(".__call__", "")
            label = f"{pathlib.Path(files[file][0]).stem}.{name}"
            if "jaxrl_moe" in files[file][0] and label not in labels:
                labels.append(label)
            # Parents are counted from one more than frames are: 1 is none.
            frame = str(int(parent or 1) - 1)
        return " > ".join(reversed(labels)) or "no line of the package"

    ops = re.finditer(r"^\s*(?:ROOT )?%(\S+) = .*stack_frame_id=(\d+)", text, re.MULTILINE)
    return {op.group(1): chain(op.group(2)) for op in ops}


def _section(text: str, title: str, pattern: str) -> dict[str, tuple[str, ...]]:
    start = re.search(rf"^{title}$", text, re.MULTILINE)
    if start is None:
        return {}
    body = text[start.end():].lstrip("\n").split("\n\n", 1)[0]
    return {match.group(1): match.groups()[1:] for match in re.finditer(pattern, body)}
