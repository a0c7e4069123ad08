"""Who stays logged in at the judges' page, and how its server starts."""
import json
import pathlib
import re
import stat

import httpx2
import pytest

from jaxrl_moe.serving.judges.page import launch, sessions
from jaxrl_moe.serving.judges.page.app import JudgePage, make_page
from jaxrl_moe.serving.judges.page.launch import PageOptions
from jaxrl_moe.serving.judges.page.sessions import PageSessions
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.helpers.fake_queue import TOKENS, FakeQueue
from tests.helpers.judges_page import Judging, served


def test_sessions_outlive_the_server_and_end_with_the_logout(queue, tmp_path):
    file = tmp_path / "sessions"
    with served(queue, file) as url:
        ada = Judging(url, "ada")
        ben = Judging(url, "ben")
        port = int(url.rsplit(":", 1)[1])
    with served(queue, file, port=port) as url:
        assert [each.get("/api/session").json()["judge"] for each in (ada, ben)] == ["ada", "ben"]
        cookie = dict(ada.http.cookies)
        assert ada.post("logout", {}).status_code == 200 and not dict(ada.http.cookies)
        ada.http.cookies.update(cookie)  # kept by whoever: the session itself is over
        assert ada.get("/api/session").status_code == 401 and ben.get("/api/session").status_code == 200


def test_cookies_are_for_this_page_alone(queue, url, tmp_path):
    plain = httpx2.post(url + "/api/login", json={"token": TOKENS["ada"]}, headers={"Origin": url})
    port = url.rsplit(":", 1)[1]
    assert re.fullmatch(rf"judge_{port}=[\w-]{{22}}; HttpOnly; Max-Age=1209600; Path=/; SameSite=strict",
                        plain.headers["set-cookie"])
    page = JudgePage(queue, PageSessions(tmp_path / "other"), 60.0, "https://judges.example.org")
    with HttpServer(page, make_page, grace=1, logins=True) as server:
        def login(host, origin):
            return httpx2.post(server.url + "/api/login", json={"token": TOKENS["ada"]},
                               headers={"Host": host, "Origin": origin})
        own = "https://judges.example.org"
        cookie = login("judges.example.org", own).headers["set-cookie"]
        assert re.fullmatch(r"__Host-judge=[\w-]{22}; HttpOnly; Max-Age=1209600; Path=/; SameSite=strict; "
                            r"Secure", cookie)
        assert login("judges.example.org", "http://judges.example.org").status_code == 403
        assert login("127.0.0.1", own).status_code == login("evil.example", own).status_code == 403


def test_the_file_of_sessions_lets_nobody_in_and_holds_few(tmp_path, monkeypatch):
    file = tmp_path / "sessions"
    held = PageSessions(file)
    monkeypatch.setattr(sessions, "MOST", 3)
    begun = [held.begin(f"judge {number}") for number in range(5)]
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not any(each.id in text for each in begun)
    other = PageSessions(file)
    assert [other.find(each.id) and other.find(each.id).judge for each in begun] == [
        None, None, "judge 2", "judge 3", "judge 4"]
    assert not any(other.find(hashed) for hashed in json.loads(text)["sessions"])
    held.end(begun[4].id)
    assert other.find(begun[4].id) is None and other.find("") is None
    monkeypatch.setattr(sessions, "AGE", 0.0)
    assert other.find(begun[3].id) is None
    assert len({each.csrf for each in begun}) == 5


@pytest.mark.parametrize("text, words", [("{}", "no sessions"), ("[]", "JSON object"), ("x", "no JSON"),
                                         ('{"sessions": {"a": ["b"]}}', "Remove it"),
                                         ('{"sessions": {}, "x": 1}', "not known")])
def test_another_file_is_no_file_of_sessions(tmp_path, text, words):
    (tmp_path / "sessions").write_text(text)
    with pytest.raises(UserError, match=words):
        PageSessions(tmp_path / "sessions")


def test_sessions_that_cannot_be_kept_are_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--sessions"):
        PageSessions(tmp_path / "file" / "sessions")


@pytest.mark.parametrize("options, words", [
    ({"host": "0.0.0.0"}, "other machines can reach the page.*--public_url"),
    ({"public_url": "http://judges.example.org"}, "must be https"),
    ({"public_url": "https://judges.example.org/judging"}, "at its server's root"),
    ({"public_url": "judges.example.org"}, "no address of a server"),
    ({"queue": "postgresql://db/judges"}, "--sessions"), ({"queue": "sqlite://"}, "--sessions"),
    ({"queue": "sqlite:///:memory:"}, "--sessions")])
def test_options_that_do_not_fit_are_refused(tmp_path, options, words):
    given = PageOptions(**{"queue": f"sqlite:///{tmp_path}/queue.db"} | options)
    with pytest.raises(UserError, match=words):
        launch._public_url(given)
        launch._sessions_file(given)


def test_logins_lie_beside_the_queue_unless_told_otherwise():
    def file(**options):
        return launch._sessions_file(PageOptions(**options))
    assert file(queue="sqlite:////a/b.db?timeout=3") == pathlib.Path("/a/b.db.sessions")
    assert file(queue="sqlite:///b.db") == pathlib.Path("b.db.sessions")
    assert file(queue="postgresql://db/x", sessions="/c") == pathlib.Path("/c")


def test_the_queue_is_closed_with_the_server_and_where_there_can_be_none(queue, url, tmp_path):
    taken = int(url.rsplit(":", 1)[1])
    other = FakeQueue()
    with pytest.raises(UserError, match="cannot listen"):
        launch.make_server(other, tmp_path / "other", PageOptions("", port=taken))
    assert other.closed and not queue.closed
    with launch.make_server(another := FakeQueue(), tmp_path / "other", PageOptions("", port=0)):
        pass
    assert another.closed


def test_with_a_public_address_other_machines_may_reach_the_page(queue, tmp_path):
    options = PageOptions("", host="0.0.0.0", port=0)
    with launch.make_server(queue, tmp_path / "file", options, "https://judges.example.org") as server:
        address = server.url.replace("0.0.0.0", "127.0.0.1") + "/health"
        assert httpx2.get(address).status_code == 403
        assert httpx2.get(address, headers={"Host": "judges.example.org"}).json() == {"status": "ok"}


def test_a_file_of_sessions_that_is_damaged_later_lets_nobody_in_and_is_not_told_of(url, ada, tmp_path):
    (tmp_path / "sessions").write_text("{")
    answer = ada.get("/api/session")
    assert answer.status_code == 500 and str(tmp_path) not in answer.text
