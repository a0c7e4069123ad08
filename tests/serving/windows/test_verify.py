"""What scripts/verify_setup.py says of what stands beside a run."""
import pathlib
import shutil

import pytest

from jaxrl_moe.config import base, resolve
from jaxrl_moe.serving.buffer.groups import Rules
from jaxrl_moe.serving.windows.verify import SCRIPTS, buffer_line, scripts_line
from jaxrl_moe.types import UserError
from tests.helpers.buffers import buffer_server, item
from tests.helpers.json_server import json_server

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "scripts"


def config_of(task):
    config = base()
    config.env.name = task
    return resolve(config)


def test_the_scripts_that_a_run_is_started_by_are_there_and_readable(tmp_path, monkeypatch):
    asks = config_of("agentgym(env='textcraft', url='http://127.0.0.1:1')")
    assert "asks no server" in scripts_line(config_of("gsm8k"), FOLDER)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert scripts_line(asks, FOLDER) == "readable; without tmux, start them with --plain"
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/tmux")
    assert scripts_line(asks, FOLDER) == "readable; tmux is /usr/bin/tmux"
    for name in SCRIPTS[1:]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"train.py cannot be read in {tmp_path}"):
        scripts_line(asks, tmp_path)


def test_a_buffer_says_how_it_is_and_others_are_none(tmp_path):
    with buffer_server(tmp_path / "b.sqlite", rules=Rules(1), api_key="k") as (http, store):
        store.write(item("a"))
        url = str(http.base_url).rstrip("/")
        assert buffer_line(url) == f"{url}: 1 groups wait for their reader, 0 are open"
    with pytest.raises(UserError, match="does not answer"):
        buffer_line(url)
    with json_server(lambda *_: {"status": "ok"}) as (other, _):
        with pytest.raises(UserError, match="is no rollout buffer"):
            buffer_line(other)
    with pytest.raises(UserError, match="does not answer"):
        buffer_line("here")
