"""A judge server put together, as scripts/serve.py starts it."""
import dataclasses
from collections.abc import Sequence

from jaxrl_moe.judges.ai import AiJudge
from jaxrl_moe.judges.chat import ChatEndpoint
from jaxrl_moe.judges.judge import Judge
from jaxrl_moe.judges.rubrics import SHIPPED, read_rubrics
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.judges.app import make_app
from jaxrl_moe.serving.judges.service import JudgeService
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class JudgeServerOptions:
    """rubrics: a file or folder, "" for those that come with the library; llm_url: of an OpenAI-compatible
    endpoint, "" for none; llm_model: its models with commas between; queue: SQLAlchemy URL of people's
    queue, "" for none; provider: who judges where a client does not say, "" for the model if there is one;
    cache: SQLite file for verdicts of models; temperature below 0: the endpoint's own; overlap: people who
    answer each question; webhooks: URLs that are told of new items, on loopback or under a prefix of
    webhook_allow, with bodies that webhook_secret signs; blend_...: of Blended."""
    rubrics: str = ""
    llm_url: str = ""
    llm_model: str = "gpt-oss-120b"
    llm_key: str = dataclasses.field(default="", repr=False)
    llm_timeout: float = 45.0
    llm_temperature: float = 0.0
    llm_max_tokens: int = 0
    llm_pictures: bool = False
    concurrency: int = 8
    cache: str = ""
    queue: str = ""
    overlap: int = 1
    webhooks: Sequence[str] = ()
    webhook_allow: Sequence[str] = ()
    webhook_secret: str = dataclasses.field(default="", repr=False)
    blend_deadline: float = 0.0
    blend_on_deadline: str = "wait"
    blend_calibrate: bool = False
    provider: str = ""
    host: str = "127.0.0.1"
    port: int = 8103
    api_key: str = dataclasses.field(default="", repr=False)
    grace: float = 30.0


def serve_judges(options: JudgeServerOptions) -> None:
    """Serves judges until SIGTERM or SIGINT.

    Raises:
      UserError: nobody would judge, an option does not fit, or the address cannot be taken.
    """
    server, service = make_server(options)
    who = ", ".join(f"{provider} ({', '.join(models)})" if any(models) else provider
                    for provider, models in service.judges.items())
    print(f"Serving judges at {server.url}: {who}; rubrics: {', '.join(service.rubrics)}", flush=True)
    server.run()
    print("Stopped; what waited is judged when it is handed in again.", flush=True)


def make_server(options: JudgeServerOptions) -> tuple[HttpServer, JudgeService]:
    """The server, which listens already, and what it serves."""
    rubrics = read_rubrics(options.rubrics or SHIPPED)
    service = JudgeService(_judges(options), rubrics)
    return HttpServer(service, make_app, host=options.host, port=options.port, api_key=options.api_key,
                      grace=options.grace), service


def _judges(options: JudgeServerOptions) -> dict[str, dict[str, Judge]]:
    """{provider: {model: judge}}, the default provider's first."""
    given = ["model"] * bool(options.llm_url) + ["human"] * bool(options.queue)
    given += ["blended"] * (len(given) == 2)
    if not given:
        raise UserError("Nobody would judge: give --llm_url=http://HOST:PORT/v1 of an OpenAI-compatible "
                        "endpoint, --queue=sqlite:///PATH for people, or both.")
    first = options.provider or given[0]
    if first not in given:
        needed = {"model": "--llm_url", "human": "--queue", "blended": "--llm_url and --queue"}.get(first)
        why = f"it needs {needed}" if needed else "there is none such"
        raise UserError(f"--provider={quoted(first)} cannot judge: {why}.{did_you_mean(first, given)}")
    _check_effects(options)
    judges = {}
    if options.llm_url:
        judges["model"] = _models(options)
    if options.queue:
        judges |= _people(options, next(iter(judges.get("model", {}).values()), None))
    return {name: judges[name] for name in sorted(judges, key=lambda name: name != first)}


def _models(options: JudgeServerOptions) -> dict[str, Judge]:
    names = [name.strip() for name in options.llm_model.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--llm_model={quoted(options.llm_model)} has an empty name, or one twice.")
    return {name: _model(name, options) for name in names}


def _model(name: str, options: JudgeServerOptions) -> Judge:
    temperature = options.llm_temperature if options.llm_temperature >= 0 else None
    endpoint = ChatEndpoint(options.llm_url, name, api_key=options.llm_key, timeout=options.llm_timeout,
                            temperature=temperature, max_tokens=options.llm_max_tokens)
    try:
        return AiJudge(endpoint, concurrency=options.concurrency, pictures=options.llm_pictures,
                       kept=options.cache)
    except UserError:
        endpoint.close()
        raise


def _people(options: JudgeServerOptions, model: Judge | None) -> dict[str, dict[str, Judge]]:
    """People by themselves, and together with a model if there is one, over the same queue."""
    from jaxrl_moe.judges.agreement import blended
    from jaxrl_moe.judges.queue import human, sql, webhook  # need SQLAlchemy, of an extra
    allowed = Allowed(options.webhook_allow, "--webhook_allow")
    told = webhook.Webhook(options.webhooks, allowed, options.webhook_secret) if options.webhooks else None
    queue = sql.SqlQueue(options.queue, overlap=options.overlap, webhook=told)
    judges: dict[str, dict[str, Judge]] = {"human": {"": human.HumanJudge(queue)}}
    if model is not None:
        judges["blended"] = {"": blended.Blended(
            queue, model, deadline=options.blend_deadline, on_deadline=options.blend_on_deadline,
            calibrate=options.blend_calibrate)}
    return judges


def _check_effects(options: JudgeServerOptions) -> None:
    """Raises UserError for an option that changes nothing beside the others."""
    given = options.blend_deadline or options.blend_on_deadline != "wait" or options.blend_calibrate
    for flag, is_given, needed, is_there in (
            ("--overlap", options.overlap != 1, "--queue", options.queue),
            ("--webhook", options.webhooks, "--queue", options.queue),
            ("--webhook_allow", options.webhook_allow, "--webhook", options.webhooks),
            ("--webhook_secret_env", options.webhook_secret, "--webhook", options.webhooks),
            ("--blend_...", given, "both --llm_url and --queue", options.llm_url and options.queue)):
        if is_given and not is_there:
            raise UserError(f"{flag} changes nothing without {needed}: give that, or leave it out.")
    if (options.blend_on_deadline != "wait") != (options.blend_deadline > 0):
        raise UserError(f"--blend_deadline={options.blend_deadline:g} does not go with --blend_on_deadline="
                        f"{quoted(options.blend_on_deadline)}: after a deadline model or drop holds, and "
                        "wait has none.")
