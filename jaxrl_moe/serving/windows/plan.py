"""Which programs a run on kernels needs: the evaluation server that its task asks, a rollout buffer, and the
training itself."""
import dataclasses
import pathlib
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Sequence

from jaxrl_moe.config import Config
from jaxrl_moe.envs.registry import declared
from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.hosts.keys import key_of_file
from jaxrl_moe.serving.windows.program import Program
from jaxrl_moe.types import UserError

EVALUATION, BUFFER, TRAINING = "eval_server", "buffer", "train"


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """scripts: folder of serve.py and train.py; logs: folder, "" for the one beside the run's own; buffer:
    whether there is one; buffer_port: of it;
    key_file: with the API key of both servers, "" for none; kernels, buffers: further options of the servers;
      words: of the
    training's command line."""
    scripts: pathlib.Path
    words: Sequence[str]
    logs: str = ""
    buffer: bool = True
    buffer_port: int = 8889
    key_file: str = ""
    kernels: Sequence[str] = ()
    buffers: Sequence[str] = ()


def programs_of(config: Config, options: WindowOptions) -> list[Program]:
    """The programs in the order in which they are started.

    Raises:
      UserError: the task asks no evaluation server, a port is taken, or the key has nowhere to go.
    """
    settings = declared(config.env.name)
    url = settings.get("url") or ""
    if not url:
        raise UserError(f"env.name = {config.env.name!r} asks no evaluation server, and needs no windows "
                        "beside "
                        "scripts/train.py: name one by its setting url, such as env.name=\"triton_kernels("
                        "url='http://127.0.0.1:18188')\".")
    logs = pathlib.Path(options.logs or config.run_dir) / ("" if options.logs else "logs")
    variables = _key_variables(settings.get("api_key_env") or "", options.key_file)
    key = [f"--api_key_file={options.key_file}"] * bool(options.key_file)
    programs = []
    if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        programs.append(_evaluation(url, options.scripts, [*key, *options.kernels], logs))
    if options.buffer:
        programs.append(_buffer(config, options, key, logs, variables))
    _check_ports(programs)
    training = [sys.executable, "-u", str(options.scripts / "train.py"), *options.words]
    return [*programs, Program(TRAINING, training, logs / f"{TRAINING}.log", variables=variables)]


def elsewhere(config: Config) -> str:
    """The address of an evaluation server on another machine; empty where it is on this one."""
    url = declared(config.env.name).get("url") or ""
    return "" if is_loopback(urllib.parse.urlsplit(url).hostname or "") else url


def _evaluation(url: str, scripts: pathlib.Path, options: Sequence[str], logs: pathlib.Path) -> Program:
    parts = urllib.parse.urlsplit(url)
    if parts.port is None:
        raise UserError(f"The evaluation server's url {url!r} has no port: write one, such as "
                        "http://127.0.0.1:18188.")
    command = [sys.executable, "-u", str(scripts / "serve.py"), "kernels", f"--host={parts.hostname}",
               f"--port={parts.port}", *options]
    return Program(EVALUATION, command, logs / f"{EVALUATION}.log", f"{url}/health")


def _buffer(config: Config, options: WindowOptions, key: Sequence[str], logs: pathlib.Path,
            variables: dict[str, str]) -> Program:
    files = [f"--data={path}" for path in config.data.prompt_files.values() if pathlib.Path(path).is_file()]
    plays = [f"--task={config.env.name}", *files] if files else []
    command = [sys.executable, "-u", str(options.scripts / "serve.py"), "buffer",
               f"--port={options.buffer_port}",
               f"--path={pathlib.Path(config.run_dir) / 'buffer.sqlite'}",
               f"--group_size={config.rollout.group_size}", *plays, *key, *options.buffers]
    return Program(BUFFER, command, logs / f"{BUFFER}.log", f"http://127.0.0.1:{options.buffer_port}/health",
                   variables)


def _key_variables(variable: str, key_file: str) -> dict[str, str]:
    """How those who ask the evaluation server get its key."""
    if not key_file:
        return {}
    if not variable:
        raise UserError("--api_key_file gives the servers a key, and env.name sends none: add "
                        "api_key_env='NAME' to its settings, and the variable NAME is set to the key where "
                        "the task runs.")
    return {variable: key_of_file(key_file)}


def _check_ports(programs: Sequence[Program]) -> None:
    """Raises UserError where a port of theirs is taken, before anything is started."""
    taken = {}
    for name, host, port in _addresses(programs):
        if port in taken:
            raise UserError(f"{name} and {taken[port]} would both listen on port {port}: give the buffer "
                            "another one by --buffer_port.")
        taken[port] = name
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise UserError(f"{name} cannot listen on {host} port {port}: {error.strerror}. End what "
                                "listens there, or choose another port (--buffer_port, or the url in "
                                "env.name).") from error


def _addresses(programs: Sequence[Program]) -> Iterator[tuple[str, str, int]]:
    for program in programs:
        parts = urllib.parse.urlsplit(program.health)
        yield program.name, parts.hostname or "", parts.port or 0
