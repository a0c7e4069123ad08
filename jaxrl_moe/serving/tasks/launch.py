"""A task app put together, as scripts/serve.py starts it."""
import dataclasses
from collections.abc import Callable, Sequence

from jaxrl_moe.outgoing.urls import Allowed, checked_url
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.tasks.agora.pages import AgoraPages
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.app import TaskAppService, make_app
from jaxrl_moe.serving.tasks.judging import JudgeOptions, Judging, checked_options
from jaxrl_moe.serving.tasks.keys import KEY, TaskKeys
from jaxrl_moe.serving.tasks.play import Player
from jaxrl_moe.serving.tasks.rollouts import Rollouts
from jaxrl_moe.serving.tasks.task import AppTask
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class AppKind:
    """What --name stands for: the task, given the browser's path; who judges it unless told otherwise; the
    port it takes."""
    task: Callable[[str], AppTask]
    provider: str
    port: int = 8101


APPS = {"agora_ex": AppKind(AgoraPages, "human"), "agora_ex_ai_judge": AppKind(AgoraPages, "model", 8102),
        "agora_ex_text": AppKind(lambda _: AgoraTexts(), "human")}


@dataclasses.dataclass(frozen=True)
class TaskAppOptions:
    """name: a row of APPS, or with hyphens; port: None for that of the row; keys: that open it; judge: of
    outcomes, its provider empty for that of the row; allow_policy: prefixes of URLs that clients may name
    beside loopback; policy_timeout: seconds that a call of a policy may take; rollouts: at work at once;
    browser: its path, empty: sought; grace: seconds that calls at work have at the end."""
    name: str
    host: str = "127.0.0.1"
    port: int | None = None
    keys: Sequence[str] = dataclasses.field(default=(), repr=False)
    judge: JudgeOptions = dataclasses.field(default_factory=JudgeOptions)
    allow_policy: Sequence[str] = ()
    policy_timeout: float = 600.0
    rollouts: int = 16
    browser: str = ""
    grace: float = 30.0


def serve_task_app(options: TaskAppOptions) -> None:
    """Serves a task's episodes until SIGTERM or SIGINT.

    Raises:
      UserError: there is no such task, it cannot be played here, or the address cannot be taken.
    """
    server, service = make_server(options)
    judge = service.judging.options
    by = f"judged by {judge.url} ({judge.provider})" if judge.url else "judged by rules: there is no judge"
    print(f"Serving {service.task.name} at {server.url}, {by}", flush=True)
    if not service.keys:
        print(f"No API key is set, so every call is refused with 503: set {KEY}.", flush=True)
    server.run()
    print("Stopped; all rollouts were ended.", flush=True)


def make_server(options: TaskAppOptions) -> tuple[HttpServer, TaskAppService]:
    """The server, which listens already, and what it serves."""
    kind = app_kind(options.name)
    judge = dataclasses.replace(options.judge, provider=options.judge.provider or kind.provider)
    if judge.url:
        judge = dataclasses.replace(judge, url=checked_url(judge.url, "--judge_url", "http://host:port"))
        judge.scorer().close()  # which refuses what does not go together
    checked_options(judge)
    task = kind.task(options.browser)
    task.prepare()
    player = Player(task, Judging(judge, task.name, task.rubric),
                    Allowed(options.allow_policy, "--allow_policy"), options.policy_timeout)
    service = TaskAppService(player, Rollouts(player.play, options.rollouts), TaskKeys(options.keys))
    return HttpServer(service, make_app, host=options.host,
                      port=kind.port if options.port is None else options.port,
                      api_key=next(iter(options.keys), ""), grace=options.grace), service


def app_kind(name: str) -> AppKind:
    """What a name stands for; raises UserError where it is none."""
    known = name.strip().replace("-", "_")
    if known not in APPS:
        raise UserError(f"There is no task app {quoted(name)}.{did_you_mean(known, APPS)} There are: "
                        f"{', '.join(APPS)}.")
    return APPS[known]
