"""Real servers on this machine's CPU, and tiny runs on them."""
import pathlib

from bridges.servers.http import Http
from bridges.servers.launch import LaunchPlan, Process
from tests.helpers import tiny_run
from tests.helpers.tiny_models import make_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = {"vllm": ROOT / ".venv-vllm/bin/python", "sglang": ROOT / ".venv-sglang/bin/python"}
FLAGS = {
    "vllm": "--max-num-seqs 16 --enforce-eager",
    "sglang": "--device cpu --attention-backend torch_native --max-running-requests 16 --max-total-tokens "
              "4096 --disable-overlap-schedule --enable-return-routed-experts"}
LORA_FLAGS = {"vllm": "", "sglang": " --lora-backend torch_native"}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCH_COMPILE_DISABLE": "1",  # compiling takes longer than all that a test draws
    "SGLANG_USE_CPU_ENGINE": "1"
}


def make_files(folder):
    """The tiny run's data, and a model of sizes that both engines' CPU kernels take."""
    tiny_run.make_files(folder)
    make_model(folder / "engine_model", num_hidden_layers=2, hidden_size=64, head_dim=32,
               moe_intermediate_size=32, max_position_embeddings=128)
    return folder


def start(kind, files, folder, flags=""):
    """A server of the engines' model, its log in the folder; whoever starts it stops it. One that does not
    come up says why."""
    process = Process(LaunchPlan(kind, str(PYTHON[kind]), str(files / "engine_model"), "float32", 128,
                                 flags=f"{FLAGS[kind]} {flags}"),
                      folder / "server.log")
    process.start()
    process.wait(Http(process.url).is_up, 180)
    return process


def settings(files, run_dir, kind, targets=("q_proj", "v_proj"), **overrides):
    """A GRPO run of 3 steps on one server that it launches; no dropout, so that sampler and trainer are the
    same policy."""
    config = tiny_run.settings(files, run_dir)
    config.model.path = str(files / "engine_model")
    config.lora.dropout = 0.0
    config.lora.targets = targets
    config.optimizer.learning_rate = 1e-2
    config.algorithm.minibatches = 1
    config.algorithm.kl_coef = 0.0
    config.train.steps = 3
    config.eval.every = 0
    config.eval.prompts = 2
    config.checkpoint.every = 1
    config.rollout.backend = kind
    config.rollout.temperature = 0.8
    # lengths differ in a group, and with this penalty so do rewards
    config.rollout.stop_strings = ("e", "1", "a")
    config.algorithm.overlong_tokens = config.algorithm.overlong_cushion = 24
    config.servers.python = str(PYTHON[kind])
    config.servers.flags = FLAGS[kind] + LORA_FLAGS[kind]
    config.servers.start_timeout = config.servers.request_timeout = 180.0
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in overrides.items()})
    return config
