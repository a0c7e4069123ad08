"""Episodes in environment servers: each format against a server written from its contract, and every failure
by its name."""
import concurrent.futures
import contextlib
import dataclasses
import json
import socket
import sys
import threading

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.remote.agentgym import AgentGym
from jaxrl_moe.envs.remote.formats import FORMATS
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.outgoing import calls
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.types import Action, EnvError, Status, ToolCall, UserError
from tests.helpers.env_servers import FakeGym, alfworld, env_server, played, sciworld, textcraft, webshop
from tests.helpers.games import Guessing
from tests.helpers.waiting import wait_until

ROW = {"id": 3}


@contextlib.contextmanager
def playing(env, url, **settings):
    with contextlib.closing(AgentGym(env, url, **settings)) as task:
        yield task


def answer(command, thought="Well."):
    return f"Thought:\n{thought}\n\nAction:\n{command}"


def user(text):
    return ({"role": "user", "content": text},)


def test_settings_choose_rounds_and_determinism_as_agentgym_has_them():
    rounds = {"textcraft": 20, "babyai": 20, "alfworld": 30, "sciworld": 30, "webshop": 10}
    for env, turns in rounds.items():
        task = make_task(f"agentgym(env='{env}', url='http://127.0.0.1:1')")
        assert task.max_turns == turns and task.concurrent and task.lowest_reward == 0
        assert task.deterministic == (env in ("textcraft", "babyai"))
    task = make_task("agentgym(env='alfworld', url='https://a/b/, http://[::1]:8081', max_turns=7, "
                     "deterministic=true)")
    assert task.max_turns == 7 and task.deterministic and task._urls == ("https://a/b", "http://[::1]:8081")


@pytest.mark.parametrize("settings, reason", [
    ("env='textcraf', url='http://a'", "env = 'textcraf' must be of type"),
    ("env='textcraft'", "needs the setting 'url'"), ("env='textcraft', url=''", "no address of a server"),
    ("env='textcraft', url='a:8081'", "url = 'a:8081' is no address"),
    ("env='textcraft', url='ftp://a'", "no address"), ("env='textcraft', url='http://'", "no address"),
    ("env='textcraft', url='http://a:99999'", "no address"),
    ("env='textcraft', url='http://a b'", "no address"), ("env='textcraft', url='http://[::1'", "no address"),
    ("env='textcraft', url='http://me:secret@a'", "without a name or password"),
    ("env='textcraft', url='http://a,,http://b'", "url = '' is no address"),
    ("env='textcraft', url='http://a', timeout=0", "timeout = 0 is out of range"),
    ("env='textcraft', url='http://a', patience=-1", "patience = -1 is out of range"),
    ("env='textcraft', url='http://a', max_turns=-1", "max_turns = -1 is out of range"),
    ("env='textcraft', url='http://a', timout=3", "Did you mean 'timeout'"),
    ("env='textcraft', url='http://a', api_key_env='NOWHERE_KEY'", "NOWHERE_KEY.* not set")])
def test_what_cannot_be_played_is_refused_with_the_setting(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"agentgym({settings})")


@pytest.mark.parametrize("row", [{}, {"id": 2**60}, {"item_id": "textcraft_3"}])
def test_a_row_that_names_no_episode_is_refused(row):
    with pytest.raises(UserError, match="needs the number of an episode, .*, or \"babyai_N\" in `item_id`"):
        AgentGym("babyai", "http://a").check_row(row, 0)


def test_a_row_names_its_episode_by_number_or_as_agentgym_does_and_takes_its_recipes_along():
    rows = [{"id": 3}, {"item_id": "textcraft_3"}, {"id": 3, "item_id": "textcraft_3", "recipes": "small"}]
    with FakeGym(textcraft) as server, playing("textcraft", server.url) as task:
        for row in rows:
            task.check_row(row, 0)
            task.open(row, 0).reset()
    sent = [body for path, body in server.asked if path == "/reset"]
    assert sent == [{"id": 5, "data_idx": 3}] * 2 + [{"id": 5, "data_idx": 3, "recipes": "small"}]


def test_nothing_is_asked_before_reset_and_a_missing_httpx_is_named(monkeypatch):
    with FakeGym(textcraft) as server, playing("textcraft", server.url) as task:
        task.open(ROW, 0)
        assert not server.asked
    monkeypatch.setitem(sys.modules, "httpx", None)
    with playing("textcraft", "http://a") as task, pytest.raises(UserError, match=r"httpx.*\[agents\]"):
        task.open(ROW, 0)


def test_alfworld_is_played_with_the_actions_it_offers():
    with FakeGym(alfworld) as server, playing("alfworld", server.url) as task:
        shown = played(task.open(ROW, 0), [answer("look"), "Action: look\nAction: go to desk 1", "look"])
    first, step, last = shown
    assert first == user("You are in a room.\nAVAILABLE ACTIONS: look,go to desk 1")
    assert step.observation == user("Nothing happens.\nAVAILABLE ACTIONS: look")
    assert (step.reward, step.done, step.info) == (0, False, {"correct": 0})
    assert (last.reward, last.done, last.info, last.observation) == (1, True, {"correct": 1}, ())
    assert [body["action"] for path, body in server.asked if path == "/step"] == ["look", "go to desk 1"]


@pytest.mark.parametrize("said, spelt", [
    ("move {} to desk 1", "put {} in/on desk 1"), ("put {} in/on desk 1", "move {} to desk 1")])
def test_putting_down_is_sent_as_the_alfworld_of_a_server_spells_it(said, spelt):
    told = {"/create": {"id": 7}, "/reset": {"observation": "A room.", "available_actions": ["look"]},
            "/step": {"observation": "Well.", "available_actions": [spelt.format("mug 1")], "reward": 0,
                      "done": False}}
    mugs = [said.format("mug 1"), said.format("mug 1"), said.format("mug 2")]
    with FakeGym(lambda path, body: told.get(path, {})) as server, playing("alfworld", server.url) as task:
        played(task.open(ROW, 0), map(answer, mugs))
    sent = [body["action"] for path, body in server.asked if path == "/step"]
    assert sent == [mugs[0], spelt.format("mug 1"), mugs[2]]  # offered after the first alone, and one mug


@pytest.mark.parametrize("commands, rewards, info", [
    (["open tap", "wait", "boil"], [0.25, 0, 0.75], {"correct": 1, "score": 100}),
    (["open tap", "focus on cup"], [0.25, -0.25], {"correct": 0, "score": -100}),
    (["focus on cup"], [0], {"correct": 0, "score": -100})])
def test_sciworld_gives_what_its_score_gains_as_a_share_of_100(commands, rewards, info):
    with FakeGym(sciworld) as server, playing("sciworld", server.url) as task:
        first, *steps = played(task.open(ROW, 0), map(answer, commands))
    assert first == user("Boil water.\nA kitchen.")
    assert [step.reward for step in steps] == rewards and steps[-1].info == info
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]


def test_a_score_that_sciworld_begins_with_counts_for_the_first_action_and_can_be_lost():
    begun = sciworld("/reset", {"id": 0, "data_idx": 3}) | {"score": 50}

    def outside(path, body):
        known = path in ("/create", "/step")
        return begun if path == "/reset" else sciworld(path, body) if known else {}

    for last, lost in (("boil", 0.75), ("focus on cup", -0.25)):
        with FakeGym(outside) as server, playing("sciworld", server.url) as task:
            _, *steps = played(task.open(ROW, 0), [answer("open tap"), answer(last)])
        assert [step.reward for step in steps] == [0.25, lost]


@pytest.mark.parametrize("last, reward", [("click[buy now]", 1.0), ("click[buy later]", 0.5)])
def test_webshop_is_played_by_its_bare_number_and_is_correct_at_the_full_reward(last, reward):
    with FakeGym(webshop) as server, playing("webshop", server.url) as task:
        first, search, end = played(task.open(ROW, 0), [answer("search[cup]"), answer(last)])
    assert first == user("Instruction: buy a cup.") and search.observation == user("search[cup]")
    assert (end.reward, end.done, end.info) == (reward, True, {"correct": float(reward == 1)})


def test_textcraft_of_agentgym_gets_the_cleaned_command_and_all_of_an_answer_with_several():
    several = answer("get 1 log") + "\nAction: inventory"
    with FakeGym(textcraft) as server, playing("textcraft", server.url) as task:
        steps = played(task.open(ROW, 0), [answer("get 2 dark_oak log!"), several,
                                           answer("craft 4 stick using 2 planks.")])[1:]
        wait_until(lambda: server.asked[-1] == ("/close", {"id": 5}))
    sent = [body["action"] for path, body in server.asked if path == "/step"]
    assert sent == ["get 2 darkoak log", several, "craft 4 stick using 2 planks"]
    assert [step.info for step in steps] == [{"correct": 0}] * 2 + [{"correct": 1}]


def called(name, **arguments):
    return Action("", 1, False, (ToolCall(name, json.dumps(arguments)),))


def test_commands_that_are_called_are_sent_in_words_and_answered_as_results():
    with FakeGym(textcraft) as server, playing("textcraft", server.url, answers="functions") as task:
        names = [tool["function"]["name"] for tool in task.tools(ROW)]
        assert names == ["get", "craft", "inventory"] and "calling a function" in task.instructions(ROW)
        env = task.open(ROW, 0)
        assert env.reset() == user("Goal: craft stick.")
        step = env.step(called("get", count="2", item="log"))
        assert step.observation == ({"role": "tool", "content": "Could not execute get 2 log"},)
        for action, said in ((called("fly"), "no function of that name"), (called("get", count="2"), "lacks"),
                             (Action("get 2 log", 1, False), "0 functions were called")):
            told = env.step(action)
            assert (told.reward, told.done, told.info) == (0, False, {"correct": 0})
            assert said in told.observation[0]["content"]
        assert env.step(called("craft", count="4", item="stick", ingredients="2 planks")).done
        env.close()
    sent = [body["action"] for path, body in server.asked if path == "/step"]
    assert sent == ["get 2 log", "craft 4 stick using 2 planks"]


def test_a_policy_is_told_what_our_own_game_tells_and_scores_are_shares():
    for env in FORMATS:
        for answers in ("react", "functions"):
            own = make_task(f"{env}(answers='{answers}')")
            task = make_task(f"agentgym(env='{env}', url='http://127.0.0.1:1', answers='{answers}')")
            assert (task.instructions(ROW), task.tools(ROW)) == (own.instructions(ROW), own.tools(ROW))
            assert task.score_range == own.score_range == (0, 1)


def test_a_reward_of_babyais_ends_the_episode_though_agentgyms_server_goes_on():
    def late(path, body):
        reward = 0.3 if body.get("action") == "go to red ball 1" else 0
        return {"id": 5} if path == "/create" else {"observation": "A room.", "reward": reward,
                                                     "score": reward, "done": False}
    with FakeGym(late) as server, playing("babyai", server.url) as task:
        steps = played(task.open(ROW, 0), ["Action:\nturn left", "Action:\ngo to red ball 1",
                                           "Action:\nturn left"])[1:]
    assert [(step.reward, step.done) for step in steps] == [(0, False), (0.3, True)]
    assert steps[-1].info == {"correct": 1}


FAULTS = [("hang", Status.TIMED_OUT, "did not answer within 1 seconds"),
          ("drip", Status.TIMED_OUT, "did not answer within 1 seconds"),
          ("drop", Status.UNREACHABLE, "broke the connection"),
          ("half", Status.UNREACHABLE, "broke the connection"),
          ("500", None, "answered with status 500: Internal Server Error"),
          ("error", None, "answered with an error: The id 5 is not valid."),
          ("page", Status.MALFORMED, "is no JSON: .*: <html>"),
          ("list", Status.MALFORMED, "holds a list, a JSON object is needed"),
          ("lacks", Status.MALFORMED, "has no (id|observation)")]
OF_STEPS = [("nan", Status.MALFORMED, "NaN is no JSON number"),
            ("text", Status.MALFORMED, "reward is \"0\" .a string.; a finite number of at least 0 is needed")]


@pytest.mark.parametrize("at", ["/create", "/reset", "/step"])
@pytest.mark.parametrize("fault, status, message", FAULTS)
def test_every_fault_of_a_server_has_its_status_and_names_the_call(fault, status, message, at):
    refused = Status.STEP_FAILED if at == "/step" else Status.RESET_FAILED
    patience = 1.0 if fault in ("hang", "drip") else 20
    with FakeGym(textcraft, fault, at) as server, playing("textcraft", server.url, timeout=patience) as task:
        env = task.open(ROW, 0)
        with pytest.raises(EnvError, match=message) as failed, contextlib.closing(env):
            env.reset()
            env.step(Action("inventory", 1, False))
        assert failed.value.status == (status or refused) and server.url + at in str(failed.value)
        with pytest.raises(UserError, match="is closed|has begun already"):
            env.step(Action("inventory", 1, False))
        server.fault = ""
        assert played(task.open(ROW, 0), ["inventory"])[1].reward == 0  # the next one finds it well


@pytest.mark.parametrize("fault, status, message", OF_STEPS)
def test_a_step_that_tells_no_number_is_malformed(fault, status, message):
    with FakeGym(textcraft, fault) as server, playing("textcraft", server.url) as task:
        with pytest.raises(EnvError, match=message) as failed:
            played(task.open(ROW, 0), ["inventory"])
    assert failed.value.status == status


def test_a_server_that_is_not_there_is_unreachable():
    with playing("textcraft", f"http://127.0.0.1:{free_port()}", patience=0) as task:
        with pytest.raises(EnvError, match="/create cannot be reached: ConnectError") as failed:
            task.open(ROW, 0).reset()
    assert failed.value.status == Status.UNREACHABLE


def test_a_server_that_never_takes_the_connection_is_given_up_in_time():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        with playing("textcraft", f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.3) as task:
            with pytest.raises(EnvError) as failed:
                task.open(ROW, 0).reset()
    assert failed.value.status == Status.TIMED_OUT


def test_an_answer_without_end_is_malformed(monkeypatch):
    monkeypatch.setattr(calls, "MOST_BYTES", 20)
    with FakeGym(textcraft) as server, playing("textcraft", server.url) as task:
        with pytest.raises(EnvError, match="more than 20 bytes") as failed:
            task.open(ROW, 0).reset()
    assert failed.value.status == Status.MALFORMED


def test_a_server_that_died_is_found_again_by_the_next_episode_and_knows_no_earlier_session():
    game = Guessing()
    with env_server(game) as (url, service):
        with playing("textcraft", url) as task:
            port = int(url.rpartition(":")[2])
            env = task.open(ROW, 0)
            env.reset()
            service.sessions.close()  # as the end of the server does
            with pytest.raises(EnvError) as failed:
                env.step(Action("5", 1, False))
            assert failed.value.status == Status.STEP_FAILED
    with playing("textcraft", url, patience=0) as task:
        with pytest.raises(EnvError) as failed:
            task.open(ROW, 0).reset()
        assert failed.value.status == Status.UNREACHABLE
        env = task.open(ROW, 0)
        with env_server(game, port=port) as (again, _):
            assert again == url and env.reset() == user("Game 3: guess.")
            assert played(task.open(ROW, 0), ["3"])[-1].reward == 1


def test_episodes_wait_for_a_server_that_is_started_again(monkeypatch):
    monkeypatch.setattr(calls, "KNOCK_SECONDS", 0.02)
    url = f"http://127.0.0.1:{free_port()}"
    with playing("textcraft", url) as task, concurrent.futures.ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(played, task.open(ROW, seed), ["3"]) for seed in range(4)]
        wait_until(lambda: task._connection is not None and task._connection._lost)
        assert not any(each.done() for each in waiting)
        with env_server(Guessing(), port=int(url.rpartition(":")[2])):
            assert [each.result()[-1].reward for each in waiting] == [1] * 4
            assert not task._connection._lost


def test_a_server_that_stays_away_is_waited_for_once_and_then_every_call_fails_at_once(monkeypatch):
    monkeypatch.setattr(calls, "KNOCK_SECONDS", 0.3)
    asked = []
    ask = Connection._asked
    monkeypatch.setattr(Connection, "_asked", lambda *arguments: asked.append(0) or ask(*arguments))
    with playing("textcraft", f"http://127.0.0.1:{free_port()}", patience=0.2) as task:
        for count in (2, 3, 4):
            with pytest.raises(EnvError, match="cannot be reached"):
                task.open(ROW, 0).reset()
            assert len(asked) == count


def test_a_call_whose_connection_breaks_is_never_made_again():
    with FakeGym(textcraft, "drop") as server, playing("textcraft", server.url) as task:
        with pytest.raises(EnvError, match="broke the connection"):
            played(task.open(ROW, 0), ["inventory"])
    assert sum(path == "/step" for path, _ in server.asked) == 1


def test_closing_the_task_ends_a_call_that_hangs_and_the_sessions_that_are_open():
    game = Guessing()
    with env_server(game) as (url, service), playing("textcraft", url) as task:
        idle, stuck = task.open(ROW, 0), task.open(ROW, 1)
        idle.reset()
        stuck.reset()
        failures = []

        def wait():
            try:
                stuck.step(Action("wait", 1, False))
            except EnvError as error:
                failures.append(error.status)
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: game.waiting == 1)
        task.close()
        thread.join(10)
        assert failures == [Status.UNREACHABLE] and service.sessions.open == 0
        game.go.set()
        wait_until(lambda: service.sessions.held == 0)


def test_notes_and_limits_of_an_environment_come_over_from_a_server_of_ours():
    class Noted(Guessing):
        def open(self, row, seed):
            env = super().open(row, seed)
            step = env.step
            env.step = lambda action: dataclasses.replace(step(action), notes={"said": action.text},
                                                          truncated=action.text == "3")
            return env

    with env_server(Noted()) as (url, _), playing("textcraft", url) as task:
        _, first, last = played(task.open(ROW, 0), ["5", "3"])
    assert (first.notes, first.truncated) == ({"said": "5"}, False)
    assert (last.notes, last.truncated, last.done) == ({"said": "3"}, True, True)


def test_seeds_spread_the_episodes_over_the_servers_and_keep_a_group_together():
    with FakeGym(textcraft) as one, FakeGym(textcraft) as other:
        with playing("textcraft", f"{one.url},{other.url}") as task:
            for seed in [*range(20)] * 2:
                task.open(ROW, seed).reset()
    counts = [sum(path == "/create" for path, _ in server.asked) for server in (one, other)]
    assert sum(counts) == 40 and all(count % 2 == 0 and count >= 8 for count in counts)
    assert one.asked != other.asked


def test_the_key_of_the_servers_reaches_them_and_shows_nowhere(monkeypatch):
    monkeypatch.setenv("GYM_KEY", "secret-key")
    with env_server(Guessing(), api_key="secret-key") as (url, _):
        with playing("textcraft", url, api_key_env="GYM_KEY") as task:
            assert played(task.open(ROW, 0), ["3"])[-1].done and "secret" not in repr(task)
        with playing("textcraft", url) as task:
            with pytest.raises(EnvError, match="status 401.*The API key is missing or wrong") as failed:
                task.open(ROW, 0).reset()
            assert failed.value.status == Status.RESET_FAILED
