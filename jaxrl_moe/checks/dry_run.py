"""What `--dry_run` prints: what a start would do, as far as that is known before it. Nothing is written."""
import pathlib
from collections.abc import Iterator

from jaxrl_moe.checks import run_dir
from jaxrl_moe.checks.entry import refuse_before_run
from jaxrl_moe.checks.setup import data_lines, mesh_line
from jaxrl_moe.checks.start import Job, Start
from jaxrl_moe.config import Config
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.placements import placement
from jaxrl_moe.phases import longest_conversation, longest_drawn, longest_rollout, sft_config, total_steps
from jaxrl_moe.runs.checkpoints.resuming import resumed_step


def dry_run(start: Start) -> str:
    """What would happen, in lines.

    Raises:
      ConfigError: with all that speaks against the start.
    """
    refuse_before_run(start)
    return "\n".join(f"{name:9} {text}" for name, text in lines(start))


def lines(start: Start) -> Iterator[tuple[str, str]]:
    """(what, how) of a start against which nothing speaks."""
    yield from (("data", line) for line in data_lines(start))
    yield "model", _model(start)
    yield "mesh", mesh_line(start)
    if start.sft:
        yield "SFT", _fine_tuning(start)
    if start.rl:
        yield "RL", _training(start.config)
    if start.draws:
        yield "engine", _engine(start)
    if start.job is not Job.EVALUATE:
        yield "run_dir", f"{start.config.run_dir}: {_earlier(start)}"
        yield "exports", _exports(start)
    yield "", "Nothing speaks against it, and nothing was written. Start it without --dry_run."


def _model(start: Start) -> str:
    model = start.model
    experts = f", {model.num_experts} experts" if any(model.sparse_layers) else ""
    made = " (will be made from scratch)" if start.makes_model else ""
    layers = f"{model.num_layers} layers of {model.hidden_size}{experts}"
    shape = f"{start.config.model.path}{made}: {model.family}, {layers}"
    return shape if start.job is Job.EVALUATE else f"{shape}; {_trained(start.config)} are trained"


def _fine_tuning(start: Start) -> str:
    config = start.config
    sft = start.config.sft
    if run_dir.warmed_up(start.recipe):
        return f"done: {pathlib.Path(config.run_dir) / 'sft' / 'model'} is there"
    unread = start.makes_model or start.makes_data
    steps = f"{sft.epochs} epochs" if unread and not sft.steps else f"{_sft_steps(start)} steps"
    return (f"{steps} of {sft.sequences_per_step} conversations of up to {sft.max_tokens} tokens, "
            f"{_trained(sft_config(start.recipe))}, in micro-batches of "
            f"{_batch(config, longest_conversation(config))}")


def _sft_steps(start: Start) -> int:
    return start.config.sft.steps or total_steps(start.config, len(start.conversations[0]))


def _trained(config: Config) -> str:
    return f"adapters of rank {config.lora.rank}" if config.lora.rank else "all weights"


def _training(config: Config) -> str:
    rollout = config.rollout
    algorithm = config.algorithm
    updates = algorithm.epochs * algorithm.minibatches
    return (f"{config.train.steps} steps of {rollout.prompts_per_step} prompts x {rollout.group_size} "
            f"completions, {algorithm.advantage} "
            f"with {algorithm.loss}, {updates} update(s) a step in micro-batches of "
            f"{_batch(config, longest_drawn(config))}")


def _batch(config: Config, longest: int) -> str:
    """The whole micro-batch of packed rows that hold the longest sequence."""
    placed = placement(config, None)
    shards = (1, 1) if placed is None else placed.shards
    length, rows = whole_batch(longest, config.train.tokens_per_micro_batch, shards)
    if config.train.pack:
        return f"at most {rows} rows of {length} tokens"
    return f"at most {config.train.tokens_per_micro_batch} tokens"


def _engine(start: Start) -> str:
    rollout = start.config.rollout
    servers = start.config.servers
    longest = f"sequences of up to {longest_rollout(start.config)} tokens"
    if not start.on_servers:
        serving = ", with an endpoint beside it" if start.rl and start.config.endpoint.serve else ""
        return f"in this process, {rollout.slots} slots, {longest}{serving}"
    where = ", ".join(servers.urls) or f"{len(servers.devices())} to be launched by {servers.python}"
    return f"{rollout.backend} servers ({where}), {longest}"


def _earlier(start: Start) -> str:
    folder = pathlib.Path(start.config.run_dir)
    step = resumed_step(start.config, folder if start.rl else folder / "sft")
    return f"goes on from the checkpoint of step {step}" if step >= 0 else "starts at step 0"


def _exports(start: Start) -> str:
    folder = pathlib.Path(start.config.run_dir) / ("" if start.rl else "sft")
    adapter = f" and {folder / 'adapter'}" if start.config.lora.rank else ""
    return f"{folder / 'model'} (merged){adapter}"
