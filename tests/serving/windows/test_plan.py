"""Which programs a run on kernels needs, and what is refused before one is started."""
import pathlib
import re
import socket

import pytest

from jaxrl_moe.config import base, resolve
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.serving.windows import words
from jaxrl_moe.serving.windows.plan import WindowOptions, elsewhere, programs_of
from jaxrl_moe.types import UserError

SCRIPTS = pathlib.Path("/repository/scripts")
SWITCHES = {"plain": True, "buffer": True, "session": False, "logs": False}


def config_of(tmp_path, task):
    config = base()
    config.run_dir = str(tmp_path / "run")
    config.env.name = task
    config.rollout.group_size = 4
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    config.data.path = str(tmp_path / "rows.jsonl")
    return resolve(config)


def task_at(port, **settings):
    others = "".join(f", {name}={value!r}" for name, value in settings.items())
    return f"agentgym(env='textcraft', url='http://127.0.0.1:{port}'{others})"


def test_the_servers_come_first_and_each_has_its_own_log(tmp_path):
    port, beside = free_port(), free_port()
    options = WindowOptions(SCRIPTS, ("--config=r.py", "--config.seed=3"), buffer_port=beside,
                            kernels=["--workers=2"])
    kernels, buffer, training = programs_of(config_of(tmp_path, task_at(port)), options)
    assert kernels.command[2:] == [str(SCRIPTS / "serve.py"), "kernels", "--host=127.0.0.1", f"--port={port}",
                                   "--workers=2"]
    assert kernels.health == f"http://127.0.0.1:{port}/health"
    assert {f"--port={beside}", "--group_size=4", f"--path={tmp_path / 'run' / 'buffer.sqlite'}",
            f"--task={task_at(port)}", f"--data={tmp_path / 'rows.jsonl'}"} <= set(buffer.command)
    assert training.command[2:] == [str(SCRIPTS / "train.py"), "--config=r.py", "--config.seed=3"]
    assert not training.health
    logs = [each.log for each in (kernels, buffer, training)]
    assert logs == [tmp_path / "run" / "logs" / f"{name}.log" for name in ("eval_server", "buffer", "train")]


def test_keys_go_by_file_and_environment_and_stand_on_no_command_line(tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    options = WindowOptions(SCRIPTS, (), buffer_port=free_port(), key_file=str(tmp_path / "key"))
    port = free_port()
    config = config_of(tmp_path, task_at(port, api_key_env="SERVER_KEY"))
    programs = programs_of(config, options)
    assert "s3cret" not in repr(programs)
    assert [each.variables.get("SERVER_KEY") for each in programs] == [None, "s3cret", "s3cret"]
    assert [f"--api_key_file={tmp_path / 'key'}" in each.command for each in programs] == [True, True, False]
    with pytest.raises(UserError, match="add api_key_env='NAME'"):
        programs_of(config_of(tmp_path, task_at(port)), options)


def test_a_server_elsewhere_is_not_started(tmp_path):
    config = config_of(tmp_path, "agentgym(env='textcraft', url='http://10.0.0.5:18188')")
    options = WindowOptions(SCRIPTS, (), buffer=False)
    assert [each.name for each in programs_of(config, options)] == ["train"]
    assert elsewhere(config) == "http://10.0.0.5:18188"
    assert not elsewhere(config_of(tmp_path, task_at(18188)))


@pytest.mark.parametrize("task, message", [
    ("gsm8k", "asks no evaluation server"),
    ("agentgym(env='textcraft', url='http://127.0.0.1')", "has no port")])
def test_a_task_that_names_no_server_is_refused(tmp_path, task, message):
    with pytest.raises(UserError, match=re.escape(message)):
        programs_of(config_of(tmp_path, task), WindowOptions(SCRIPTS, ()))


def test_ports_that_are_taken_are_told_before_anything_starts(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"eval_server cannot listen on 127.0.0.1 port {port}"):
            programs_of(config_of(tmp_path, task_at(port)), WindowOptions(SCRIPTS, (),
                                                                          buffer_port=free_port()))
        with pytest.raises(UserError, match=f"buffer cannot listen on 127.0.0.1 port {port}"):
            programs_of(config_of(tmp_path, task_at(free_port())), WindowOptions(SCRIPTS, (),
                                                                                 buffer_port=port))
    port = free_port()
    with pytest.raises(UserError, match="buffer and eval_server would both listen"):
        programs_of(config_of(tmp_path, task_at(port)), WindowOptions(SCRIPTS, (), buffer_port=port))


def test_of_a_command_line_all_but_the_launchers_own_options_go_on():
    given = ["--config=a.py", "--plain", "--nobuffer", "--session=x", "-logs=y", "--config.seed=1", "slime",
             "--lr"]
    assert words.without(given, SWITCHES) == ["--config=a.py", "--config.seed=1", "slime", "--lr"]
    with pytest.raises(UserError, match="--logs has its value in a word of its own"):
        words.without(["--logs", "y"], SWITCHES)
