"""The page over the queue in a database: a judge's twenty items, while the page's server is killed."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.judges.queue.human import HumanJudge
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask, Part, Work
from tests.helpers.fake_queue import RUBRIC
from tests.helpers.judges_page import come_in, send

ROOT = pathlib.Path(__file__).resolve().parents[4]
NUMBERS = "[...document.querySelectorAll('.work > .text')].map(each => each.innerText)"
SCORED = "document.querySelectorAll('.scored, .marks [aria-pressed=true]').length"
READY = "document.querySelector('.form') && !document.querySelector('.submit').disabled"


def work(number, group="", size=1):
    html = f"<h1>Page {number}</h1>"
    parts = (Part("html", html), Part("text", str(number)))
    return Work(f"Build page {number}.", (html,), parts, group, size)


def fill(queue):
    """{item: the reward that is right} of 20 items that people answer."""
    judge = HumanJudge(queue)
    right = {}
    for number in range(16):
        reward = (number % 6) / 5 * 0.5 + 0.3 * (number % 2) + 0.2
        right[judge.submit(work(number), Ask(RUBRIC, run="run"))] = reward
    for group in range(2):
        pair = [work(number, f"group-{group}", 2) for number in (100 + 2 * group, 101 + 2 * group)]
        for number, each in enumerate(pair):
            right[judge.submit(each, Ask(RUBRIC, "pairwise", run="other"))] = float(number)
    return right


def answer(tab):
    """Rates what is shown by keys, so that a work's reward follows from its number; whether there was
    something."""
    tab.wait(f"({READY}) || document.querySelector('.judging').innerText.includes('Nothing waits')")
    if not tab.evaluate(READY):
        return False
    shown = [int(each) for each in tab.evaluate(NUMBERS)]
    keys = ([str(shown[0] % 6), "ny"[shown[0] % 2], "5"] if len(shown) == 1
            else ["ArrowLeft" if shown[0] > shown[1] else "ArrowRight"])
    for key in keys:
        tab.press(key)
    return True


def check(queue, right):
    judge = HumanJudge(queue)
    for item, reward in right.items():
        assert judge.verdict(item).reward == pytest.approx(reward, abs=1e-9)
    progress = queue.progress("ada")
    assert (progress.waiting, progress.leased, dict(progress.runs)) == (0, 0, {})


def test_twenty_items_of_a_database_are_judged_over_reloads_and_restarts(tab, judging, tmp_path):
    url = f"sqlite:///{tmp_path}/queue.db"
    own = SqlQueue(url)
    token = own.add_judge("ada")
    right = fill(own)
    assert len(right) == 20
    answered = 0
    port = 0
    while port == 0 or answered < len(right) - 2:  # a pair is one question
        with judging(SqlQueue(url), port) as address:
            if port == 0:
                port = int(address.rsplit(":", 1)[1])
                come_in(tab, address, token)
            for number in range(7):
                if not answer(tab):
                    break
                if number == 3:
                    tab.call("Page.reload")
                    tab.wait(f"{READY} && {SCORED}")
                send(tab)
                answered += 1
    with judging(SqlQueue(url), port):
        assert not answer(tab)
        tab.press("v")
        tab.wait("document.querySelector('.progress .chart path')")
    check(own, right)
    assert own.progress("ada").answered == answered == 18
    own.close()


@pytest.mark.slow
def test_nothing_is_lost_or_answered_twice_where_the_server_is_killed(tab, tmp_path):
    url = f"sqlite:///{tmp_path}/queue.db"
    own = SqlQueue(url)
    token = own.add_judge("ada")
    right = fill(own)
    port = free_port()

    def start():
        command = [sys.executable, "scripts/serve.py", "judge-page", f"--queue={url}", f"--port={port}",
                   "--lease=120"]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                                   stdout=subprocess.PIPE)
        assert re.fullmatch(rf"Judges come in at http://127.0.0.1:{port}\n", process.stdout.readline())
        return process

    server = start()
    try:
        come_in(tab, f"http://127.0.0.1:{port}", token)
        for number in range(18):
            assert answer(tab)
            if number % 3 == 1:  # the answer is sent to nobody, or to one who dies of it
                if number % 2:
                    server.kill()
                    server.wait()
                tab.evaluate("document.querySelector('.form').dataset.old = 'yes'")
                tab.press("Enter")
                server.kill()
                server.wait()
                server = start()
                tab.wait("!document.querySelector('[data-old]')")
            else:
                send(tab)
        tab.wait("document.querySelector('.judging').innerText.includes('Nothing waits')")
        server.terminate()
        assert server.wait(60) == 0
    finally:
        server.kill()
    check(own, right)
    assert own.progress("ada").answered == 18
    own.close()
