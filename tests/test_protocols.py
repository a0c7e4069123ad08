"""Every class that claims a protocol keeps it: each of its methods is called. A new claim without a case here
fails."""
import ast
import contextlib
import dataclasses
import functools
import inspect
import pathlib
import tempfile
import time
import typing
from collections.abc import Mapping, Set

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges.engines.assembly import KINDS
from bridges.engines.engine import over_servers
from bridges.engines.pool import Member
from bridges.engines.shared import SharedEngine
from bridges.servers.http import Http
from bridges.servers.receiver import Weights
from jaxrl_moe import protocols
from jaxrl_moe.config import Config, EndpointSection, RolloutSection, TrainSection
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.word_problems import WordProblems
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import Critic
from jaxrl_moe.protocols import Bridge, Engine, Env, StreamingEngine, Task
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.runs.metrics import Stopwatch
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.training.selection import Selection
from jaxrl_moe.training.source import Source, open_source
from jaxrl_moe.types import Action, Completion, Request, SamplingParams, Step, UserError
from tests.helpers import sciworld
from tests.helpers.adapters import faked
from tests.helpers.env_servers import FakeGym, textcraft
from tests.helpers.fake_alfworld import python_of
from tests.helpers.fake_server import FakeServer
from tests.helpers.fake_task_app import FakeTaskApp, ModelsOnly
from tests.helpers.games import Guessing
from tests.helpers.json_server import json_server
from tests.helpers.kernels import PROBLEM, RIGHT, WRONG, ScriptedJudge, code, judged_by
from tests.helpers.rollout_servers import answering
from tests.helpers.scripted_engine import PARAMS, PROMPTS, ScriptedEngine, ScriptedTask
from tests.helpers.tiny_models import make_checkpoint, make_tokenizer
from tests.helpers.walks import Walk

ROOT = pathlib.Path(__file__).parent.parent
SETTINGS = RolloutSection(slots=4, page_size=16, max_tokens=32, decode_steps=4)
CHECKED = {"Engine": Engine, "StreamingEngine": StreamingEngine, "Task": Task, "Env": Env,
           "AgentEpisode": protocols.AgentEpisode, "Source": Source}


def class_bases():
    """{class: (names of its bases, whether it has abstract methods)} of the library, the bridges and the
    tests' helpers."""
    found = {}
    for folder in ("jaxrl_moe", "bridges", "tests/helpers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    marks = [ast.unparse(mark) for item in node.body
                             for mark in getattr(item, "decorator_list", ())]
                    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
                    found[node.name] = bases, "abc.abstractmethod" in marks
    return found


def claims():
    """{class: protocols that it claims}, for every class of which there can be objects."""
    bases = class_bases()

    def ancestors(name):
        direct = bases.get(name, (set(), False))[0]
        return direct.union(*map(ancestors, direct))

    return {name: ancestors(name) & CHECKED.keys() for name, (direct, abstract) in bases.items()
            if not abstract and "Protocol" not in direct and ancestors(name) & CHECKED.keys()}


def members(protocol):
    """Public names that a protocol promises, those of the protocols that it extends included."""
    own = [vars(kind) for kind in protocol.__mro__
           if getattr(kind, "_is_protocol", False) and kind is not typing.Protocol]
    return {name for promised in own for name in {**promised, **promised.get("__annotations__", {})}
            if not name.startswith("_")}


class Watched:
    """Passes everything on, and notes what was asked for."""

    def __init__(self, watched):
        self._watched = watched
        self.used = set()

    def __getattr__(self, name):
        self.used.add(name)
        return getattr(self._watched, name)


class Written:
    """Stands for a WeightWriter: versions without files."""
    kind = "disk"
    adapter = False

    def __call__(self, params, version):
        return Weights(f"v{version}", version, "/folder", False, 5)

    def remove(self, weights):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    make_checkpoint(path, num_hidden_layers=1, max_position_embeddings=128)
    make_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return bridges.load_model(folder)


@pytest.fixture(scope="module")
def in_process(model):
    return JaxEngine(model, SETTINGS, max_prompt_tokens=16)


@pytest.fixture
def fake():
    server = FakeServer("vllm")
    yield server
    server.close()


def server_engine(model, fake):
    members = [Member(KINDS["vllm"](Http(fake.url), model.config))]
    return over_servers(members, Written(), lambda server, params, weights: 1e-6, config=model.config,
                        context=64, concurrency=2, seed=0, eos_ids=(2,), detokenise=str)


LASTING = contextlib.ExitStack()  # what ends with the process


@contextlib.contextmanager
def source(staleness):
    rollout = RolloutSection(prompts_per_step=2, max_staleness=staleness)
    config = dataclasses.replace(Config(), rollout=rollout, train=TrainSection(steps=3))
    draws = Draws(PromptIterator(PROMPTS, seed=0), PROMPTS)
    with open_source(config, ScriptedEngine(), Episodes(ScriptedTask(), str), draws, PARAMS) as opened:
        yield opened


@functools.cache
def gym():
    """A task over a fake environment server, which ends with the process."""
    return make_task(f"agentgym(env='textcraft', url='{FakeGym(textcraft).url}')")


def app():
    """A task over a fake task app, which ends with the process."""
    return make_task(f"task_app(url='{FakeTaskApp().url}')")


def alfworld():
    """A task whose games a process of the tests plays, which ends with this one."""
    return make_task(f"alfworld(games='small', python='{python_of(pathlib.Path(tempfile.mkdtemp()))}')")


def kernels(name):
    """A task over a fake evaluation server, which ends with the process."""
    url, _ = LASTING.enter_context(json_server(lambda *_: {"basis": "interpreter"}))
    return make_task(f"{name}(url='{url}')")


def rollouts():
    """A task over a fake server of POST /rollouts, which ends with the process."""
    url, _ = LASTING.enter_context(answering({"details": [{"id": 0, "reward": 1}]}))
    return make_task(f"remote_rollouts(url='{url}', env='fake', by_calls=false)")


CASES = {  # class: its object, as a function of the test's fixtures
    "JaxEngine": lambda model, in_process, fake: in_process,
    "EngineFront": lambda model, in_process, fake: EngineFront(in_process),
    "ServerEngine": lambda model, in_process, fake: server_engine(model, fake),
    "SharedEngine": lambda model, in_process, fake: SharedEngine(
        lambda score, writing: server_engine(model, fake), None, model, "base"),
    "ScriptedEngine": lambda model, in_process, fake: ScriptedEngine(lambda *_: 3),
    "Gsm8k": lambda *_: make_task("gsm8k"), "WordProblems": lambda *_: make_task("word_problems"),
    "ScriptedTask": lambda *_: ScriptedTask(),
    "TextCraft": lambda *_: make_task("textcraft(recipes='small')"),
    "TextCraftEpisode": lambda *_: make_task("textcraft(recipes='small')").open({"id": 0}, 0),
    "BabyAI": lambda *_: make_task("babyai"),
    "Mixture": lambda *_: make_task("mixed(game=\"textcraft(recipes='small')\", quiz='gsm8k')"),
    "BabyAIEpisode": lambda *_: make_task("babyai(steps=2)").open({"id": 0}, 0),
    "GymnasiumTask": lambda *_: faked(make_task("gymnasium(id='Sums-v0')")),
    "ReasoningGymTask": lambda *_: faked(make_task("reasoning_gym(dataset='sums')")),
    "VerifiersTask": lambda *_: faked(make_task("verifiers(taskset='sums')")),
    "OpenEnvTask": lambda *_: faked(make_task("openenv(command='sums')")),
    "McpTask": lambda *_: faked(make_task("mcp(command='sums')")),
    "AdapterEpisode": lambda *_: faked(make_task("gymnasium(id='Sums-v0')")).open({"id": 0}, 0),
    "AlfWorld": lambda *_: alfworld(), "AlfWorldEpisode": lambda *_: alfworld().open({"id": 0}, 0),
    "SciWorld": lambda *_: sciworld.task(jvms=1),
    "SciWorldEpisode": lambda *_: sciworld.shared_task().open(sciworld.PARROT, 0),
    "Mathematics": lambda *_: make_task("math"),
    "WebShop": lambda *_: make_task("webshop(products=20)"),
    "WebShopEpisode": lambda *_: make_task("webshop(products=20)").open({"id": 0}, 0),
    "AgentGym": lambda *_: gym(), "RemoteEpisode": lambda *_: gym().open({"id": 0}, 0),
    "TritonKernels": lambda *_: kernels("triton_kernels"),
    "TritonChoices": lambda *_: kernels("triton_choices"),
    "KernelEpisode": lambda *_: judged_by(make_task("triton_kernels"), ScriptedJudge(WRONG, RIGHT)).open(
        {"label": PROBLEM}, 0),
    "Walk": lambda *_: Walk(), "Walking": lambda *_: Walk().open({"answer": 1}, 0),
    "Guessing": lambda *_: Guessing(), "GuessingGame": lambda *_: Guessing().open({"id": 3}, 0),
    "OneStep": lambda *_: make_task("gsm8k").open({"answer": "#### 3"}, 0),
    "AgentTask": lambda *_: make_task("agent"), "LeftEpisode": lambda *_: make_task("agent").open({}, 0),
    "TaskApp": lambda *_: app(), "TaskAppEpisode": lambda *_: app().open({"seed": 0}, 0),
    "RemoteRollouts": lambda *_: rollouts(),
    "RolloutsEpisode": lambda *_: rollouts().open({"id": 0}, 0),
    "Synchronous": lambda *_: source(0), "Asynchronous": lambda *_: source(1)}
PLAYED = {"TextCraftEpisode": ("get 1 flower", "craft 1 blue dye using 1 flower"),
          "BabyAIEpisode": ("turn left", "turn left"),
          "AlfWorldEpisode": ("look", "open door 1"),
          "SciWorldEpisode": ("Action: look around", "Action: focus on egg parrot"),
          "WebShopEpisode": ("search[dorvane dress]", "click[ours000000]", "click[buy now]"),
          "Walking": ("aa", "bb", "cc"), "KernelEpisode": (code("first").text, code("second").text),
          "AdapterEpisode": ("Action: 1", "Action: 2"),
          "RemoteEpisode": ("inventory", "craft 4 stick using 2 planks")}  # else one answer is all


def request(number, tokens=6):
    return Request(np.array([5 + number, 7, 9], np.int32), SamplingParams(tokens, n=2), number)


def assert_drawn(completions, version):
    assert len(completions) == 2
    for completion in completions:
        assert isinstance(completion, Completion) and completion.ids.dtype == np.int32
        assert completion.finish_reason in ("stop", "length")
        assert 0 < len(completion.ids) == len(completion.logprobs) == len(completion.policy_version)
        assert set(completion.policy_version.tolist()) == {version}


def use_streaming_engine(engine, params):
    assert isinstance(engine.devices, Set)
    engine.publish(params, 1)
    handle = engine.submit(request(0))
    dropped = engine.submit(request(1))
    done = {}
    end = time.monotonic() + 60
    engine.cancel(dropped)
    while handle not in done and time.monotonic() < end:
        done |= engine.step()
    assert done.keys() == {handle}
    assert_drawn(done[handle], 1)
    engine.cancel(handle)  # it is done, and left alone
    handle = engine.submit(request(2, tokens=30))
    assert engine.cut(handle) is None  # no token was drawn yet
    engine.step()
    cut = engine.cut(handle)
    assert cut is None or len(cut) == 2
    engine.cancel(handle)


def use_engine(engine, params):
    figures = engine.publish(params, 2)
    assert figures is None or isinstance(figures, Mapping)
    assert all(isinstance(value, int | float) for value in (figures or {}).values())
    before = engine.stats()["tokens"]
    drawn = engine.generate([request(3), request(4)])
    assert engine.release() is None
    drawn += engine.generate([request(5)])
    for completions in drawn:
        assert_drawn(completions, 2)
    tokens = sum(len(completion.ids) for completions in drawn for completion in completions)
    assert engine.stats()["tokens"] - before == tokens
    assert engine.close() is None


def use_task(task, params):
    answer = 3 if isinstance(task._watched, WordProblems) else "#### 3"
    row = {"answer": answer, "index": 0, "id": 0, "seed": 0, "env": "game", "label": PROBLEM}
    action = Action("#### 3", 4, False)
    assert task.check_row(row, 0) is None and {task.concurrent, task.deterministic} <= {True, False}
    with pytest.raises((UserError, AssertionError)):
        task.check_row({"answer": None, "index": 1, "id": -1, "never": float("nan")}, 2)
    assert 1 <= task.turns_of(row) <= task.max_turns and task.tools(row) == ()
    assert task.ready() is None and not task.by_calls and task.ends_itself <= task.by_agents
    assert task.compared == 0 and isinstance(task.instructions(row), str) and isinstance(task.wire, str)
    assert task.score_range is None or task.score_range[0] < task.score_range[1]
    assert task.scaled_from(row) == ((0.0, 1.0) if task.envs else None)
    if task.by_agents:
        with contextlib.closing(task.open(row, 0)) as episode:
            assert isinstance(episode, protocols.AgentEpisode)
        assert task.lowest_reward is None and task.close() is None and task.close() is None
        return
    with contextlib.closing(task.open(row, 0)) as first, contextlib.closing(task.open(row, 0)) as second:
        assert first.reset() == second.reset()
        steps = [first.step(action), second.step(action)]
    assert steps[0] == steps[1] or not task.deterministic
    assert task.lowest_reward is None or steps[0].reward >= task.lowest_reward
    assert task.close() is None and task.close() is None


def use_env(env, params):
    assert isinstance(env.reset(), tuple)
    answers = PLAYED.get(type(env._watched).__name__, ("#### 3",))
    steps = [env.step(Action(answer, 4, False)) for answer in answers]
    for step in steps:
        assert isinstance(step, Step) and isinstance(step.reward, float)
        assert step.done == (step is steps[-1]) and isinstance(step.observation, tuple)
    with pytest.raises(UserError):
        env.step(Action("#### 3", 4, False))
    assert env.close() is None and env.close() is None


def use_agent_episode(episode, params):
    if type(episode._watched).__name__ in ("TaskAppEpisode", "RolloutsEpisode"):
        with ModelsOnly() as server:
            assert episode.play(f"{server.url}/sessions/0/v1").done
    else:
        assert episode.play("http://127.0.0.1:1/sessions/0/v1") is None
    assert episode.close() is None and episode.close() is None


def use_source(source, params):
    source.publish(jnp.zeros(1), 0)
    batch = source.next(Stopwatch())
    assert isinstance(batch, Selection) and len(batch.used) == 2
    source.publish(jnp.zeros(1), 1)
    with source.idle():
        pass
    assert source.position().keys() == {"sequence", "data", "unfinished"}


USES = {"StreamingEngine": use_streaming_engine, "Engine": use_engine, "Task": use_task, "Env": use_env,
        "AgentEpisode": use_agent_episode, "Source": use_source}


def test_every_class_that_claims_a_protocol_has_a_case():
    assert claims().keys() == CASES.keys()


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_class_keeps_every_promise_of_the_protocols_that_it_claims(name, model, in_process, fake):
    made = CASES[name](model, in_process, fake)
    claimed = claims()[name]
    with made if "Source" in claimed else contextlib.nullcontext(made) as made:
        assert type(made).__name__ == name
        watched = Watched(made)
        for protocol in sorted(claimed, key=list(USES).index):
            assert CHECKED[protocol] in type(made).__mro__
            USES[protocol](watched, nnx.state(model))
        promised = set().union(*(members(CHECKED[protocol]) for protocol in claimed))
        assert promised <= watched.used, promised - watched.used


def test_a_class_that_lacks_a_part_of_what_it_claims_cannot_be_made():
    class Half(Engine):
        def generate(self, requests):
            return []

    with pytest.raises(TypeError, match="abstract method"):
        Half()
    assert not isinstance(SharedEngine.__new__(SharedEngine), StreamingEngine)


KINDS_OF_ARGUMENTS = (Config, Critic, LoraConfig, ModelConfig, Placement, Tokenizer, Transformer)
NAMES = {kind.__name__: kind for kind in KINDS_OF_ARGUMENTS}


@pytest.mark.parametrize("name", sorted(members(Bridge)))
def test_the_bridges_take_and_give_what_their_protocol_says(name):
    promised = getattr(Bridge, name)
    real = getattr(bridges, name)
    hints = typing.get_type_hints(promised, localns=NAMES)
    own = typing.get_type_hints(real)
    parameters = dict(inspect.signature(promised).parameters)
    theirs = inspect.signature(real).parameters
    parameters.pop("self")
    required = {other.name for other in theirs.values() if other.default is other.empty}
    assert required <= parameters.keys()
    for position, parameter in enumerate(parameters.values()):
        other = theirs[parameter.name]
        hint = hints[parameter.name]
        assert parameter.default is parameter.empty or parameter.default == other.default
        if parameter.kind != parameter.KEYWORD_ONLY:
            assert list(theirs)[position] == parameter.name and other.kind == parameter.kind
        assert hint is typing.Any or hint == own.get(parameter.name, hint)
    assert hints["return"] == own["return"]


def test_the_library_asks_the_bridges_for_nothing_else():
    trees = [ast.parse(path.read_text()) for path in (ROOT / "jaxrl_moe").rglob("*.py")]
    read = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    asked = {node.attr for node in read if isinstance(node.value, ast.Name) and node.value.id == "bridge"}
    assert asked
    assert asked <= members(Bridge) <= set(bridges.__all__)


def test_the_endpoint_hands_the_loop_an_engine_that_it_shares(in_process, folder, tmp_path):
    from jaxrl_moe.serving.launch import beside_training
    section = EndpointSection(serve=True, port=0)
    config = dataclasses.replace(Config(), run_dir=str(tmp_path), endpoint=section)
    with beside_training(config, in_process, load_tokenizer(str(folder))) as engine:
        assert Engine in type(engine).__mro__
        assert_drawn(engine.generate([request(6)])[0], in_process._version)
    promised = inspect.signature(protocols.Endpoint.__call__).parameters
    assert ["self", *inspect.signature(beside_training).parameters] == list(promised)
