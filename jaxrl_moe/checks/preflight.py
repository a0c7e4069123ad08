"""What is checked before a run spends any time: the context, the adapters, and what run_dir holds already."""
import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator

from jaxrl_moe.config import Config, ConfigError, to_json
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.placements import placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.make import lora_config
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.phases import longest_conversation, longest_drawn, sft_config
from jaxrl_moe.protocols import Bridge
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.runs.run import flat, read_settings
from jaxrl_moe.runs.scratch import to_be_made
from jaxrl_moe.types import UserError

# What an SFT phase's weights follow from, besides the seed.
_SFT_SECTIONS = ("sft", "scratch", "lora", "optimizer", "moe")
_SFT_SETTINGS = ("model.path", "model.dtype", "data.system_prompt", "data.suffix")


def context_length(config: Config, bridge: Bridge) -> int:
    """Tokens in the model's context: of the model that is about to be made, or of the checkpoint, RoPE scaling included."""
    if to_be_made(config):
        return config.scratch.context
    model: ModelConfig = bridge.model_config(config.model.path)
    trained = model.rope.original_max_position_embeddings or model.max_position_embeddings
    return max(model.max_position_embeddings, int(trained * model.rope.factor))


def check_context(config: Config, context: int, *, draws: bool, sft: bool) -> None:
    """Refuses sequences that the model's context cannot hold.

    Args:
      config: resolved.
      context: tokens of the model's context.
      draws: whether completions will be drawn.
      sft: whether conversations will be trained on.

    Raises:
      ConfigError: naming the fields and the mend.
    """
    longest = {}
    if draws:
        longest["data.max_prompt_tokens + rollout.max_tokens"] = config.data.max_prompt_tokens + config.rollout.max_tokens
    if sft:
        longest["sft.max_tokens"] = config.sft.max_tokens
    for fields, tokens in longest.items():
        if tokens > context:
            raise ConfigError(
                f"{fields} = {tokens}, but the context of the model {config.model.path!r} holds {context} tokens "
                "(max_position_embeddings in its config.json, or scratch.context for a model that is still to be made): "
                f"lower {fields.replace(' + ', ' or ')}, or take a model with a longer context.")


def check_adapters(config: Config, bridge: Bridge) -> None:
    """Refuses LoRA targets that match nothing, or that could not be exported after the training."""
    if config.lora.rank:
        bridge.check_adapters(bridge.model_config(config.model.path), lora_config(config))


def check_critic(config: Config, bridge: Bridge) -> None:
    """Refuses a critic that the run is to start from if it does not fit the model or the advantage."""
    kind = find_advantage(config.algorithm.advantage).critic
    if not kind or not config.critic.path:
        return
    critic, size = bridge.load_critic(config.critic.path), bridge.model_config(config.model.path).hidden_size
    if critic.head.hidden_size != size:
        raise ConfigError(f"critic.path = {config.critic.path!r} holds a critic for hidden states of {critic.head.hidden_size} numbers, "
                          f"and those of {config.model.path!r} have {size}: give one that was trained on this model, or leave it empty.")
    if critic.kind != kind:
        raise ConfigError(f"critic.path = {config.critic.path!r} holds a {critic.kind!r} critic, and algorithm.advantage = "
                          f"{config.algorithm.advantage!r} needs a {kind!r} one, whose values mean something else: give one of that "
                          "kind, or leave it empty.")


def refuse_other_settings(config: Config) -> None:
    """All processes of a job must have been given the same settings, or they would wait for each other for ever."""
    ours = json.loads(json.dumps(flat(to_json(config))))
    theirs = hosts.from_leader(lambda: ours)
    differing = [f"{key} = {ours[key]!r} (there {theirs[key]!r})" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise ConfigError(f"This process has other settings than process 0: {', '.join(differing)}. Give all the same recipe and options.")


def refuse_other_seed(config: Config) -> None:
    """Files of a run made with one seed must not be taken for those of another."""
    for path in (pathlib.Path(config.run_dir) / part / "config.json" for part in (".", "sft")):
        seed = read_settings(path).get("seed", config.seed)
        if seed != config.seed:
            raise ConfigError(f"run_dir = {config.run_dir!r} holds a run with seed {seed}, but seed = {config.seed}: give "
                              "another run_dir, or the old seed to go on with that run.")


def warmed_up(config: Config) -> bool:
    """Whether the SFT phase's exports (model, and adapter if it trained one) are there, made with these very settings.

    Raises:
      ConfigError: it was made with others, so RL would start from a model that the recipe does not describe.
    """
    folder = pathlib.Path(config.run_dir) / "sft"
    if not (folder / "model").exists():
        return False
    before, now = flat(read_settings(folder / "config.json")), flat(to_json(sft_config(config)))
    changed = [f"{key} (was {before[key]!r}, is {now[key]!r})" for key in sorted(before.keys() & now.keys())
               if _matters(key, now) and before[key] != now[key]]
    if changed:
        raise ConfigError(f"{folder / 'model'} was fine-tuned with other settings: {', '.join(changed)}. Give another run_dir, "
                          f"delete {folder} to fine-tune again, or set them as they were.")
    return not now["lora.rank"] or (folder / "adapter").exists()


def _matters(key: str, settings: dict) -> bool:
    """Whether the SFT phase depends on a setting; of the adapters' section only where it has adapters."""
    section = key.partition(".")[0]
    if section == "lora" and key != "lora.rank" and not settings["lora.rank"]:
        return False
    if key == "moe.replay":
        return False
    return section in _SFT_SECTIONS or key in _SFT_SETTINGS


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Holds run_dir for this process, or its job, alone; the lock ends with the process, however it ends.

    Raises:
      UserError: another process holds it.
    """
    folder = pathlib.Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        hosts.on_leader(lambda: _lock(held.enter_context((folder / ".lock").open("w")), run_dir))
        yield


def _lock(file, run_dir: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"run_dir = {run_dir!r} is in use by another process, and two would spoil each other's files: wait "
                        "for it, stop it, or give another run_dir.") from error


def check_micro_batches(config: Config, *, rl: bool, sft: bool) -> None:
    """Refuses micro-batches too small for a row of the longest sequence on each part of the training's mesh, before anything is drawn.

    Args:
      config: resolved.
      rl: whether rollouts will be trained on.
      sft: whether conversations will.

    Raises:
      MeshError: the mesh does not fit the devices.
      UserError: with the tokens that a micro-batch needs.
    """
    place = placement(config, None)
    for longest in (longest_drawn(config),) * rl + (longest_conversation(config),) * sft:
        whole_batch(longest, config.train.tokens_per_micro_batch, (1, 1) if place is None else place.shards)
