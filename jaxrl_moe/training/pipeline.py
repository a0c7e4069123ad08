"""A whole run, phase by phase: data and model, SFT warm-up, RL, export, report. scripts/train.py hands in
bridges and endpoint."""
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

from jaxrl_moe import log_files
from jaxrl_moe.checks import start
from jaxrl_moe.checks.entry import refuse_before_run
from jaxrl_moe.checks.run_dir import locked, warmed_up
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.value_head import Critic
from jaxrl_moe.phases import sft_config
from jaxrl_moe.protocols import Bridge, Endpoint, Engine, Task
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.runs import writers
from jaxrl_moe.runs.checkpoints.resuming import standing
from jaxrl_moe.runs.evaluation import Evaluation, evaluate
from jaxrl_moe.runs.logs import METRICS, TRAJECTORIES
from jaxrl_moe.runs.report import report
from jaxrl_moe.runs.stopping import Ending
from jaxrl_moe.runs.trajectories import Trajectories
from jaxrl_moe.training.assembly import Data, build, load, make_engine, make_episodes, prepare
from jaxrl_moe.training.sft import last_step, sft
from jaxrl_moe.training.train import train
from jaxrl_moe.types import UserError


def run_all(config: Config, bridge: Bridge, endpoint: Endpoint | None = None) -> Ending:
    """SFT first if the recipe has it, then RL, then the export and the report. Each phase goes on from its
    newest checkpoint.

    Args:
      config: resolved.
      bridge: reads and writes models, and reaches servers.
      endpoint: what serves the policy meanwhile, for endpoint.serve.

    Returns:
      How it ended; all is saved in any case.

    Raises:
      UserError: a setting that cannot work, or endpoint.serve where no endpoint is handed in; see the
        parts.
    """
    begin = start.training(config, bridge)
    refuse_before_run(begin)
    if config.endpoint.serve and endpoint is None:
        raise UserError("endpoint.serve = true needs an endpoint, and this run was started without one: "
                        "start it by scripts/train.py, or hand serving.launch.beside_training to run_all.")
    with locked(config.run_dir), contextlib.closing(begin.task) as task:
        return _run_all(begin.settled(), task, endpoint)


def _run_all(begin: Start, task: Task, endpoint: Endpoint | None) -> Ending:
    config = begin.config
    bridge = begin.bridge
    hosts.on_leader(task.ready)
    data = prepare(begin)
    if begin.sft:
        config = after_warm_up(config, warmed_up(begin.recipe), task.by_agents)
        ending = warm_up(begin, task, data)
        if not ending:
            return ending
    updates = config.train.steps * config.algorithm.epochs * config.algorithm.minibatches
    learner, engine = build(config, bridge, data.tokenizer, updates)
    sessions = AgentSessions() if task.by_agents else None
    with contextlib.closing(engine), shared(config, engine, data.tokenizer, endpoint, sessions) as drawing:
        ending = train(config, learner, drawing, task, data.tokenizer, data.prompts, data.eval_prompts,
                       sessions)
    if not ending:
        return ending
    export(config, bridge, learner, pathlib.Path(config.run_dir))
    hosts.on_leader(lambda: report(pathlib.Path(config.run_dir)))
    return ending


@contextlib.contextmanager
def shared(config: Config, engine: Engine, tokenizer: Tokenizer, endpoint: Endpoint | None,
           sessions: AgentSessions | None = None) -> Iterator[Engine]:
    """What the loop draws by: the engine, or where the endpoint section says so a front that it shares with
    clients over HTTP, and with the agents of the sessions.

    Raises:
      UserError: the endpoint's own: its address cannot be taken, or its API key is not there.
    """
    if not config.endpoint.serve:
        yield engine
        return
    with endpoint(config, engine, tokenizer, sessions) as front:
        yield front


def run_sft(config: Config, bridge: Bridge) -> Ending:
    """Only the SFT phase and its export; evaluated if the recipe names an environment and held-out prompts.

    Returns:
      How it ended; all is saved in any case.
    """
    begin = start.fine_tuning(config, bridge)
    refuse_before_run(begin)
    with locked(config.run_dir), task_if_any(begin) as task:
        begin = begin.settled()
        ending = warm_up(begin, task, prepare(begin))
        if ending:
            hosts.on_leader(lambda: report(pathlib.Path(config.run_dir)))
    return ending


@contextlib.contextmanager
def task_if_any(begin: Start) -> Iterator[Task | None]:
    """The task of a run that need not have one; closed in the end."""
    if not begin.config.env.name:
        yield None
        return
    with contextlib.closing(begin.task) as task:
        yield task


def run_evaluation(config: Config, bridge: Bridge, model: str | None, adapter: str | None,
                   output: pathlib.Path) -> dict[str, float]:
    """Evaluates a model under an adapter, if any; writes metrics and completions to output.

    Args:
      config: resolved; of its data only the held-out prompts are read.
      bridge: reads the model.
      model: folder or hub name, taken as it is; None: the recipe's, made on the spot if the recipe makes one.
      adapter: PEFT folder or None.
      output: folder for the metrics and completions.
    """
    begin = start.evaluation(config, bridge, model or "", adapter or "")
    refuse_before_run(begin)
    begin = begin.settled()
    config = begin.config
    with contextlib.closing(begin.task) as task:
        data = prepare(begin)
        policy = load(config, bridge, bridge.read_lora(adapter) if adapter else None)
        if adapter:
            bridge.import_adapter(policy, adapter)
        with contextlib.closing(make_engine(config, policy, data.tokenizer)) as engine:
            result = evaluate_policy(config, engine, task, data)
    hosts.on_leader(lambda: _write_evaluation(result, output, data))
    return result.metrics


def _write_evaluation(result: Evaluation, output: pathlib.Path, data: Data) -> None:
    for name in (METRICS, TRAJECTORIES):
        earlier = log_files.set_aside(output / name)
        if earlier:
            print(f"{output / name} of an earlier evaluation is now {earlier.name}.")
    writers.JsonLines(output / METRICS).write(0, result.metrics)
    for phase, groups in result.groups.items():
        Trajectories(output / TRAJECTORIES, data.tokenizer.decode).write(0, phase, groups)


def warm_up(begin: Start, task: Task | None, data: Data) -> Ending:
    """Fine-tunes model.path on the conversations and exports run_dir/sft/model, unless that is there already.
    With a task, unless agents play it, and held-out prompts it is evaluated meanwhile.

    Raises:
      ConfigError: it is there, but made with other settings.
    """
    if warmed_up(begin.recipe):
        return Ending.DONE
    config = sft_config(begin.recipe)
    folder = pathlib.Path(config.run_dir) / "sft"
    bridge = begin.bridge
    conversations, counts = begin.conversations
    print(counts)
    steps = last_step(config, conversations, standing(config, folder))
    learner, engine = build(config, bridge, data.tokenizer, steps)

    def evaluation() -> Evaluation:
        engine.publish(learner.params(), 0)
        result = evaluate_policy(config, engine, task, data)
        engine.release()
        return result

    played = task is not None and not task.by_agents  # agents have an endpoint in the RL phase alone
    graded = evaluation if played and data.eval_prompts else None
    with contextlib.closing(engine):
        ending = sft(config, learner, conversations, data.tokenizer.decode, graded)
    if ending:
        export(config, bridge, learner, folder)
    return ending


def evaluate_policy(config: Config, engine: Engine, task: Task, data: Data) -> Evaluation:
    """The held-out prompts, drawn by the engine and graded by the recipe's task."""
    episodes = make_episodes(config, task, data.tokenizer)
    return evaluate(data.eval_prompts, episodes, engine, config)


def after_warm_up(config: Config, done: bool, by_agents: bool) -> Config:
    """The configuration of the RL phase: it starts from the fine-tuned model, whose accuracy is known unless
    agents play. Unless the warm-up was done before, checkpoint.resume_step is one of its steps."""
    at_start = config.eval.at_start and by_agents
    path = str(pathlib.Path(config.run_dir) / "sft" / "model")
    checkpoint = config.checkpoint if done else dataclasses.replace(config.checkpoint, resume_step=-1)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=path),
                               eval=dataclasses.replace(config.eval, at_start=at_start),
                               checkpoint=checkpoint)


def export(config: Config, bridge: Bridge, learner: Learner, folder: pathlib.Path) -> None:
    """Writes folder/model (merged) and, if adapters were trained, folder/adapter with the critic, if any,
    beside them; without adapters a critic has folder/critic to itself. Prints where they are.

    Every process takes part in gathering the arrays; process 0 writes."""
    model = learner.model()
    kind = find_advantage(config.algorithm.advantage).critic
    critic = Critic(learner.value_head(), kind) if kind else None
    print("Hugging Face checkpoint:",
          bridge.export_model(model, folder / "model", source=config.model.path, overwrite=True))
    if config.lora.rank:
        print(
            "PEFT adapter:",
            bridge.export_adapter(model, folder / "adapter", config.model.path, overwrite=True,
                                  critic=critic))
    elif critic:
        print("Critic:", bridge.export_critic(critic, folder / "critic", config.model.path, overwrite=True))
    hosts.barrier()  # whoever reads them next finds them
