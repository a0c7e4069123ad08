"""The viewer's server and its page in a real browser: who may ask, what is answered, and that nothing a model
wrote is run."""
import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys

import httpx2
import pytest

from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.viewer import answers, launch
from jaxrl_moe.serving.viewer.app import make_viewer
from jaxrl_moe.serving.viewer.questions import RowWanted
from jaxrl_moe.serving.viewer.shown import ShownRuns
from jaxrl_moe.types import UserError
from tests.helpers.chromium import PROGRAM, chromium
from tests.helpers.viewed_runs import HOSTILE, write_run
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")


@contextlib.contextmanager
def viewing(*folders):
    """The address of a viewer of these runs, whose files are read."""
    with ShownRuns(folders) as runs, HttpServer(runs, lambda runs, _: make_viewer(runs),
                                                grace=1) as server:
        files = [phase.index.log for phases in runs.phases for phase in phases[:1]]
        wait_until(lambda: all(log.offset == log.path.stat().st_size for log in files))
        yield server.url


def get(url, **options):
    return httpx2.get(url, timeout=60, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "baseline", steps=4, groups=2, group_size=3)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "other", steps=3, groups=2, group_size=3, seed=1)


@pytest.fixture(scope="module")
def url(run):
    with viewing(run) as url:
        yield url


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.resize(1280, 800)
        yield tab


@pytest.mark.parametrize(
    "path", ["/", "/static/main.js", "/static/none.js", "/api/state", "/api/9/9/steps", "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(url, path):
    headers = get(url + path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not {"access-control-allow-origin", "set-cookie"} & set(headers)


@pytest.mark.parametrize("host, status", [("127.0.0.1", 200), ("127.0.0.1:99", 200), ("localhost:8400", 200),
                                          ("LOCALHOST", 200), ("[::1]:8400", 200), ("127.8.9.1", 200),
                                          ("evil.example", 403), ("evil.example:8400", 403),
                                          ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403),
                                          ("10.0.0.1", 403), ("0.0.0.0", 403), ("", 403), ("[::1", 403),
                                          ("localhost@evil.example", 403)])
@pytest.mark.parametrize("path", ["/", "/api/state"])
def test_only_the_names_of_this_machine_are_answered(url, host, status, path):
    answer = get(url + path, headers={"Host": host})
    assert answer.status_code == status and ("runs" in answer.text) <= (status == 200)


def test_a_request_with_two_hosts_or_none_is_refused(url):
    for hosts in (b"Host: localhost\r\nHost: localhost\r\n", b""):
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client:
            client.sendall(b"GET /api/state HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert re.match(rb"HTTP/1.1 40[03] ", answer) and b"runs" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_get_is_answered(url, method):
    assert httpx2.request(method, url + "/api/state").status_code == 405


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..%5capp.py",
    "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/../../../../etc/passwd", "/static/index.html%00.js",
    "/static/app.py", "/app.py", "/docs", "/openapi.json"
])
def test_no_path_that_is_asked_for_leads_to_a_file(url, path):
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ") and b"root:" not in answer and b"FastAPI" not in answer


@pytest.mark.parametrize("query, status, words",
                         [("2/0/steps", 404, "no run 2"), ("0/3/steps", 404, "phase 3"),
                          ("-1/0/steps", 404, "no run -1"), ("0/x/steps", 400, "phase"),
                          ("0/0/steps?outcom=finished", 400, "outcom: unknown field"),
                          ("0/0/steps?least=much", 400, "least"), ("0/0/groups?step=1", 400, "phase"),
                          ("0/0/groups?step=-1&phase=train", 400, "step"),
                          ("state?x=1", 400, "x: unknown field"),
                          ("0/0/row?row=999999&version=1", 404, "no row"),
                          ("0/0/row?row=0&version=7", 409, "replaced"),
                          ("0/0/row?row=../x&version=1", 400, "row"),
                          ("0/0/search?step=1&phase=train&text=", 400, "text")])
def test_a_wrong_question_is_told_what_is_wrong(url, query, status, words):
    answer = get(f"{url}/api/{query}")
    assert answer.status_code == status and words in answer.json()["error"]["message"]


def test_a_row_is_answered_with_everything_that_it_holds(run, url):
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    found = get(f"{url}/api/0/0/groups?step=2&phase=train").json()["groups"]
    assert [[rows[at]["sequence"] for at in group["rows"]] for group in found] == [[4] * 3, [5] * 3]
    at = found[1]["rows"][2]
    row = rows[at]
    shown = get(f"{url}/api/0/0/row?row={at}&version=1").json()
    tokens = shown["traces"][0]["completion"]
    assert shown["spelled"] and "".join(tokens["texts"]) == decoded(run, row["completion_ids"])
    assert tokens["ids"] == row["completion_ids"] and tokens["loss_mask"] == row["loss_mask"]
    assert shown["traces"][0]["turns"] == row["turns"] and shown["messages"] == row["messages"]
    assert tokens["mismatch"] == pytest.approx(
        [abs(a - b) for a, b in zip(row["trainer_logprobs"], row["logprobs"])], abs=1e-6)
    assert tokens["advantages"] == [row["advantage"] if drawn else None for drawn in row["loss_mask"]]
    assert {
        key: shown[key]
        for key in ("reward", "outcome", "message", "info")
    } == {
        key: row[key]
        for key in ("reward", "outcome", "message", "info")
    }
    word = row["messages"][0][0]["content"]
    hits = get(f"{url}/api/0/0/search", params={
        "step": 2,
        "phase": "train",
        "text": word.upper()
    }).json()["rows"]
    assert hits == [
        number for number, each in enumerate(rows) if each["step"] == 2 and any(
            word.lower() in text.lower()
            for text in (each["prompt"], each["completion"], json.dumps(each["messages"])))
    ]


def decoded(run, ids):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(run / "model").decode(ids, clean_up_tokenization_spaces=False)


OLD = {
    "step": 1,
    "phase": "eval",
    "sequence": 0,
    "sample": 0,
    "prompt_index": 0,
    "prompt_ids": [65, 66],
    "prompt": "AB",
    "completion_ids": [67, 68, 69],
    "completion": "CDE",
    "loss_mask": [1, 1, 1],
    "logprobs": [-1.0, -0.5, -2.0],
    "policy_version": [0, 0, 0],
    "reward": 1.0,
    "info": {},
    "used_reward": None,
    "advantage": None,
    "truncated": True
}
BRANCH = {
    "prompt_ids": [1],
    "completion_ids": [2, 3],
    "loss_mask": [1, 1],
    "logprobs": [-1.0, -1.0],
    "turns": [[0, 2, 0.0]]
}


@pytest.mark.parametrize("row, check", [
    (OLD, lambda shown: shown["outcome"] == "truncated" and shown["traces"][0]["turns"] == [[0, 3, None]] and
     not shown["spelled"] and "no tokenizer" in shown["told"] and "advantages" not in shown["traces"][0][
         "completion"]),
    (OLD | {
        "reward": float("nan"),
        "logprobs": [float("-inf"), 0, 0]
    },
     lambda shown: shown["reward"] == "nan" and shown["traces"][0]["completion"]["logprobs"] == [None, 0, 0]),
    (OLD | {
        "branches": [BRANCH],
        "advantage": [0.5, -0.25],
        "turns": [[0, 3, 1.0]]
    }, lambda shown: [trace["completion"]["advantages"]
                      for trace in shown["traces"]] == [[0.5, 0.5], [-0.25] * 3]),
    (OLD | {
        "turns": [[0, 1, 0], [2, 3, 1]],
        "advantage": [1.0, 2.0],
        "loss_mask": [1, 0, 1]
    }, lambda shown: shown["traces"][0]["completion"]["advantages"] == [1.0, None, 2.0]),
    (OLD | {
        "logprobs": [0.0]
    }, lambda shown: "logprobs has 1 values for 3 tokens" in shown["reason"]),
    (OLD | {
        "turns": [[2, 9, 0]]
    }, lambda shown: "turns[0]" in shown["reason"]),
    (OLD | {
        "messages": {
            "role": 1
        }
    }, lambda shown: "messages" in shown["reason"]),
    (OLD | {
        "completion_ids": "CDE"
    }, lambda shown: "completion_ids" in shown["reason"]),
    (OLD | {
        "step": "one"
    }, lambda shown: "step" in shown["reason"] and shown["begins"].startswith('{"step": "one"'))
])
def test_rows_of_older_runs_and_broken_ones_are_shown_as_what_they_are(tmp_path, row, check):
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(row) + "\n")
    runs = ShownRuns([tmp_path])
    while runs.advance():
        pass
    shown = answers.row(runs.phases[0][0], RowWanted(row=0, version=1))
    assert check(json.loads(json.dumps(shown, allow_nan=False)))


@pytest.mark.parametrize("make, words",
                         [(lambda path: path, "There is no folder"),
                          (lambda path: path.mkdir() or path, "is no run's folder"),
                          (lambda path: path.mkdir() or
                           (path / "metrics.jsonl").write_text("") or path, "has no trajectories.jsonl"),
                          (lambda path: path.write_text("") and path or path, "is a file"),
                          (lambda path: (path / "evaluation").mkdir(parents=True) or
                           (path / "evaluation" / "trajectories.jsonl").write_text("{}") and path /
                           "evaluation" / "trajectories.jsonl", "is a file. Give the folder of the run")])
def test_what_is_no_run_is_refused(tmp_path, make, words):
    with pytest.raises(UserError, match=words):
        launch.view([str(make(tmp_path / "run"))])


def test_addresses_that_others_reach_ports_in_use_and_three_runs_are_refused(run, url):
    for options, words in (({
            "host": "0.0.0.0"
    }, "other machines"), ({
            "host": "example.org"
    }, "other machines"), ({
            "port": int(url.rsplit(":", 1)[1])
    }, "Choose another host or port")):
        with pytest.raises(UserError, match=words):
            launch.view([str(run)], **options)
    with pytest.raises(UserError, match="one run or two"):
        launch.view([str(run)] * 3)


def commands():
    """The commands of the page about the viewer."""
    return re.findall(r"^python (scripts/view.py .*)$", (ROOT / "docs/viewer.md").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_page_show_runs_until_they_are_interrupted(run, other, command):
    arguments = command.replace("runs/quickstart", str(run)).replace("runs/other", str(other)).split()
    arguments = [argument for argument in arguments if not argument.startswith("--port")] + ["--port=0"]
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as shown:
        address = re.search(r"http://127.0.0.1:\d+", shown.stdout.readline())[0]
        names = [each["name"] for each in get(f"{address}/api/state").json()["runs"]]
        shown.send_signal(signal.SIGINT)
        assert shown.wait(60) == 0
    assert names == [each.name for each in (run, other) if str(each) in arguments]


@pytest.mark.slow
@pytest.mark.parametrize("arguments, words", [(["{run}"], "is no run's folder"), ([], "No run is given"),
                                              (["a", "--port=1", "b", "--port=2"], "given twice")])
def test_the_command_refuses_in_one_paragraph(tmp_path, arguments, words):
    given = [argument.format(run=tmp_path) for argument in arguments]
    command = [sys.executable, "scripts/view.py", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and "Traceback" not in done.stderr
    assert words in " ".join(done.stderr.split()) and not done.stdout


@needs_browser
def test_what_a_model_wrote_is_shown_and_never_run(tab, tmp_path):
    name = "<img src=x onerror=window.ran=5>"
    run = write_run(tmp_path / name, steps=1, groups=2, group_size=8, texts=HOSTILE)
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"message": HOSTILE[1], "info": {HOSTILE[0]: 1.0}, "outcome": HOSTILE[7], "phase": HOSTILE[1],
                "notes": {HOSTILE[0]: f"{HOSTILE[1]} says the judge"}}
    for row in rows[1::2]:  # whose ids are shown, since the tokenizer does not give this
        row["prompt"] = HOSTILE[0]
    lines = [json.dumps(row) + "\n" for row in rows] + [f"{HOSTILE[0]}{HOSTILE[1]}\n"]
    (run / "trajectories.jsonl").write_text("".join(lines))
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, HOSTILE[1]: 2.0, HOSTILE[0]: 1.0}) + "\n")
    with viewing(run) as url:
        tab.complaints.clear()
        for row in (0, 5, 10, 15):
            tab.open(f"{url}/#view=episodes&sequence={rows[row]['sequence']}&sample={row % 8}")
            tab.wait("document.querySelector('.episode .turn')")
        for text in (HOSTILE[1], HOSTILE[7], HOSTILE[0], f"{HOSTILE[1]} says the judge"):
            assert text in tab.evaluate("document.body.innerText")
        tab.evaluate("document.querySelectorAll('.t').forEach(token => token.click())")
        tab.open(url)
        tab.wait("document.querySelector('.card .metric') && document.querySelector('.choices label')")
        assert HOSTILE[1] in tab.evaluate("document.querySelector('.charts').innerText")
        assert tab.evaluate(
            "document.querySelectorAll('img, iframe, object, embed, a, style, body script').length") == 0
        assert tab.evaluate("window.ran") is None and tab.complaints == []
        tab.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 9'}))")
        assert tab.evaluate("window.ran") is None  # which the policy alone prevents
        tab.open("about:blank")


@needs_browser
def test_two_runs_side_by_side_and_a_run_that_goes_on(tab, run, other, tmp_path):
    live = tmp_path / "live"
    live.mkdir()
    text = (run / "trajectories.jsonl").read_text()
    (live / "trajectories.jsonl").write_text("".join(line + "\n" for line in text.splitlines()[:12]))
    with viewing(live, other) as url:
        tab.complaints.clear()
        tab.open(f"{url}/#view=episodes&step=2")
        tab.wait("document.querySelectorAll('.column .episode').length == 2")
        assert tab.evaluate("[...document.querySelectorAll('.column > h3')].map(each => each.innerText)") == [
            "live", "other"
        ]
        assert tab.evaluate("new Set([...document.querySelectorAll('.prompt .said, .prompt .tokens')].map("
                            "each => each.innerText.match(/craft (.*?)\\./)[1])).size") == 1
        tab.press("j")
        tab.wait(
            "document.querySelectorAll('.sample')[1].ariaPressed === 'true' && /sample=1/.test(location.hash)"
        )
        tab.press("x")
        tab.wait(
            "document.querySelector('.columns .t.trained') && document.querySelector('.columns .t.untrained')"
        )
        with (live / "trajectories.jsonl").open("a") as file:  # the run goes on
            file.write("".join(line + "\n" for line in text.splitlines()[12:]))
        tab.wait("[...document.querySelectorAll('.step-number')].some(each => each.innerText === '4')")
        tab.press("]")
        tab.wait("document.querySelector('.groups h2').innerText === 'Step 3'")
        assert tab.complaints == []
        (live / "trajectories.jsonl").write_text("".join(line + "\n"
                                                         for line in text.splitlines()[:6]))  # cut back
        tab.wait("![...document.querySelectorAll('.reading')].some(each => each.innerText.startsWith('42'))")
        tab.evaluate("location.hash = '#view=episodes&step=1&outcome=finished'")
        tab.wait("document.querySelector('.groups h2').innerText === 'Step 1'")
        tab.press("1")
        tab.wait("document.querySelector('.curves-view .card path')")
        # questions about what was cut off are answered so, as gone or as never there, and asked again
        assert [each for each in tab.complaints if "409" not in each and "404" not in each] == []
