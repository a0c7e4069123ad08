"""The five formats of AgentGym's as its clients send and read them, and as our own client does."""
import httpx
import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.remote.agentgym import AgentGym
from jaxrl_moe.serving.envs.tells import Untold, read, texts, word
from jaxrl_moe.serving.envs.wires import WIRES
from tests.helpers.env_servers import env_server, played
from tests.helpers.games import ACTIONS, BUTTONS, Guessing, guessing


def client(url):
    return httpx.Client(base_url=url, timeout=60)


def post(http, path, body=None):
    answer = http.post(path) if body is None else http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_textcraft_is_played_as_agentgyms_client_does():
    with env_server(Guessing()) as (url, service), client(url) as http:
        body = {"minecraft_dir": "agentenv_textcraft/", "commands": None, "goal": None}
        first = post(http, "/create", body)
        number = first.pop("id")
        assert first == {"observation": "Game 0: guess.", "done": False, "reward": 0}
        assert post(http, "/reset", {"id": number, "data_idx": 3}) == {
            "id": number, "observation": "Game 3: guess.", "done": False, "reward": 0}
        step = post(http, "/step", {"id": number, "action": "5"})
        assert step == {"observation": "Game 3: less than 5.", "reward": 0, "done": False,
                        "info": {"correct": 0}, "achieved": []}
        assert http.get("/observation", params={"id": number}).json() == step["observation"]
        assert post(http, "/step", {"id": number, "action": "3"})["done"]
        assert post(http, "/close", {"id": number}) == {"closed": True}
        assert http.get("/").json() == "This is environment textcraft." and service.sessions.held == 0
        own = post(http, "/create", {"commands": "craft 1 a using 1 b", "goal": "a"})
        assert own == {"error": "There is no game None: they are numbered from 0 to 99."}


def test_babyai_is_played_as_agentgyms_client_does():
    with env_server(Guessing(), "babyai") as (url, service), client(url) as http:
        answer = post(http, "/create")  # without a body
        number = answer.pop("id")
        assert answer == {}
        assert post(http, "/reset", {"id": number, "data_idx": 3}) == {
            "observation": "Game 3: guess.", "reward": 0, "score": 0, "done": False}
        for score in (0.25, 0.5):
            step = post(http, "/step", {"id": number, "action": "100"})
            assert (step["reward"], step["score"]) == (0.25, score)
        assert http.get("/observation", params={"id": number}).json() == {
            "observation": "Game 3: less than 100.", "reward": 0.25, "score": 0.5, "done": False,
            "deleted": False}
        last = post(http, "/step", {"id": number, "action": "3"})
        assert (last["reward"], last["score"], last["done"]) == (1, 1.5, True)
        assert "no picture" in http.get("/render").json()["error"]
        assert "no picture" in post(http, "/render", {"id": number})["error"]


def test_alfworld_is_played_as_agentgyms_client_does():
    with env_server(guessing("alfworld"), "alfworld") as (url, service), client(url) as http:
        number = post(http, "/create")["id"]
        assert post(http, "/reset", {"id": number, "game": 3, "world_type": "Text"}) == {
            "id": number, "observation": "Game 3: guess.", "available_actions": ACTIONS,
            "task_type": "guess/the-number"}
        assert post(http, "/step", {"id": number, "action": "5"}) == {
            "observation": "Game 3: less than 5.", "reward": 0, "available_actions": ACTIONS, "done": False,
            "info": {"correct": 0}, "achieved": []}
        assert http.get("/observation", params={"id": number}).json() == "Game 3: less than 5."
        assert http.get("/available_actions", params={"id": number}).json() == ACTIONS
        last = post(http, "/step", {"id": number, "action": "3"})
        assert (last["reward"], last["done"], last["available_actions"]) == (1, True, ACTIONS)
        other = post(http, "/reset", {"id": number, "game": 3, "world_type": "Embody"})
        assert other == {"error": "world_type: Input should be 'Text'."}
        assert "no details" in http.get("/detail", params={"id": number}).json()["error"]
        assert post(http, "/close", {"id": number}) == {"closed": True}


def test_sciworld_is_played_as_agentgyms_client_does():
    with env_server(guessing("sciworld"), "sciworld") as (url, service), client(url) as http:
        number = post(http, "/create")["id"]
        begun = post(http, "/reset", {"id": number, "data_idx": 3})
        assert begun == {"task_description": "Task: find the number.", "observation": "Game 3: guess.",
                         "reward": 0, "score": 0, "deleted": False, "done": False}
        step = post(http, "/step", {"id": number, "action": "100"})
        assert step == {"observation": "Game 3: less than 100.", "reward": 25, "score": 25, "done": False,
                        "info": {"correct": 0}, "achieved": []}
        query = {"id": number}
        assert http.get("/observation", params=query).json() == "Game 3: less than 100."
        assert http.get("/task_description", params=query).json() == {
            "task_description": "Task: find the number."}
        for path in ("/action_hint", "/goals", "/detail", "/object_tree", "/state"):
            assert "does not tell" in http.get(path, params=query).json()["error"]
        assert "no pictures" in post(http, "/step_visual", {"id": number, "action": "5"})["error"]
        assert post(http, "/close", query) == {"closed": True}


def test_sciworlds_score_is_the_games_own_where_it_tells_one():
    class Wrong(Guessing):
        def open(self, row, seed):
            env = super().open(row, seed)
            step = env.step
            env.step = lambda action: step(action).__class__(-0.25, True, {"score": -100.0})
            return env

    with env_server(Wrong(kind="sciworld"), "sciworld") as (url, _), client(url) as http:
        number = post(http, "/create")["id"]
        post(http, "/reset", {"id": number, "data_idx": 3})
        step = post(http, "/step", {"id": number, "action": "focus on cup"})
        assert (step["reward"], step["score"], step["done"]) == (-25, -100, True)


def test_webshop_is_played_as_agentgyms_client_does():
    with env_server(guessing("webshop"), "webshop") as (url, service), client(url) as http:
        number = post(http, "/create")
        assert type(number) is int and http.get("/").json() == "ok"
        query = {"env_idx": number}
        assert post(http, "/reset", {"env_idx": number, "session_id": 3}) == ["Game 3: guess.", None]
        assert http.get("/observation", params=query).json() == "Game 3: guess."
        assert http.get("/available_actions", params=query).json() == BUTTONS
        assert http.get("/instruction_text", params=query).json() == "Find the number."
        assert post(http, "/step", {"env_idx": number, "action": "5"}) == {
            "state": "Game 3: less than 5.", "reward": 0, "done": False, "info": {"correct": 0},
            "achieved": []}
        last = post(http, "/step", {"env_idx": number, "action": "3"})
        assert (last["reward"], last["done"]) == (1, True)
        assert "no web pages" in http.get("/state", params=query).json()["error"]
        assert "of others" in http.get("/list_envs").json()["error"]
        assert post(http, "/close", query) == {"closed": True}
        wrong = post(http, "/step", {"id": number, "action": "5"})["error"]
        assert "env_idx: Field required" in wrong and "id: unknown field" in wrong


def react(*words):
    return [f"Thought:\nWell.\n\nAction:\n{each}" for each in words]


ODD = ["no action", "Action: 1\nAction: 2", "", "Action: \ud800 \x00 9"]
PLAYED = {"textcraft": react("5", "100") + ODD + react("3"), "babyai": react("5") + ODD + react("3"),
          "alfworld": react("5", "two words", "100", "3"), "sciworld": react("5", "two words", "3"),
          "webshop": react("5", "two words", "100", "3")}


@pytest.mark.parametrize("wire", WIRES)
def test_an_episode_over_http_is_the_one_in_process(wire):
    expected = played(guessing(wire).open({"id": 3}, 0), PLAYED[wire])
    assert expected[-1].done and len(expected) == len(PLAYED[wire]) + 1
    with env_server(guessing(wire), wire) as (url, _):
        task = AgentGym(wire, url)
        assert played(task.open({"id": 3}, 0), PLAYED[wire]) == expected
        task.close()


@pytest.mark.parametrize("wire, name", [("alfworld", "task_type"), ("sciworld", "task_description"),
                                        ("webshop", "available_actions")])
def test_a_game_that_does_not_tell_what_a_format_shows_is_an_error_that_names_it(wire, name, monkeypatch):
    task = guessing(wire)
    monkeypatch.delattr("tests.helpers.games.GuessingGame." + name)
    names = {"alfworld": "game", "sciworld": "data_idx", "webshop": "session_id"}
    with env_server(task, wire) as (url, service), client(url) as http:
        number = post(http, "/create")
        session = {service.wire.session: number if isinstance(number, int) else number["id"]}
        body = session | {names[wire]: 3} | ({"world_type": "Text"} if wire == "alfworld" else {})
        said = post(http, "/reset", body)["error"]
        assert f"could not begin: it has no attribute `{name}`" in said and "--wire" in said
        assert (task.opened, task.closed) == (1, 1)


def test_a_game_that_is_played_by_calls_of_functions_is_refused_with_the_way_out():
    task = make_task("textcraft(recipes='small', answers='functions')")
    with env_server(task) as (url, service), client(url) as http:
        said = post(http, "/create", {})["error"]
        assert "by calling functions" in said and "answers='react'" in said and "/rollouts" in said
        assert service.sessions.held == 0


def test_what_an_env_tells_is_checked():
    class Odd:
        name = 5
        actions = ["a", 5]

    assert read(Guessing(kind="alfworld").open({"id": 3}, 0), {"available_actions": texts}) == {
        "available_actions": ACTIONS}
    for tells, needed in (({"name": word}, "tells 5 as `name`; a text is needed"),
                          ({"actions": texts}, "a list of texts is needed")):
        with pytest.raises(Untold, match=needed):
            read(Odd(), tells)
