"""The judges' page in a real browser: judging by keys alone, what it survives, and how it looks on a
phone."""
import pathlib

import pytest

from jaxrl_moe.judges.records import Part, Work
from tests.helpers.fake_queue import TOKENS, FakeQueue
from tests.helpers.waiting import wait_until

PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
LOOKS = (pathlib.Path(__file__).resolve().parents[3] / "helpers" / "looks.js").read_text()
DRAFTS = "Object.keys(localStorage).filter(key => key.startsWith('draft'))"
NOTHING_WRONG = {"small": [], "unnamed": [], "faint": [], "wide": []}


def work(number):
    html = f"<h1>Page {number}</h1>"
    return Work(f"Build page {number}.", (html,), (Part("html", html),))


def wait_for(tab, number):
    """Waits until that item is on the page."""
    tab.wait(f"document.querySelector('.task .text')?.innerText === 'Build page {number}.' && "
             "!document.querySelector('.submit').disabled")


def wait_for_answer(queue, item):
    wait_until(lambda: queue.answers[item])


def wait_for_event(queue, *event):
    wait_until(lambda: queue.events[-1:] == [event])


def press(tab, *keys):
    for key in keys:
        tab.press(key)


def test_a_queue_of_20_is_judged_by_keys_over_a_reload_and_a_restart_of_the_server(tab, judging, come_in):
    queue = FakeQueue()
    modes = ["rubric"] * 14 + ["pairwise"] * 3 + ["ranking"] * 3
    counts = {"rubric": 1, "pairwise": 2, "ranking": 3}
    items = [queue.put(*[work(at)] * counts[mode], mode=mode) for at, mode in enumerate(modes)]
    keys = {"rubric": ("3", "y", "5", "ArrowLeft"), "pairwise": ("ArrowRight",),
            "ranking": ("2", "=", "3", "1")}

    def judge(first, last):
        for number in range(first, last):
            wait_for(tab, number)
            press(tab, *keys[modes[number]], "Enter")
            wait_for_answer(queue, items[number])

    with judging(queue) as url:
        port = int(url.rsplit(":", 1)[1])
        come_in(url)
        judge(0, 5)
        wait_for(tab, 5)
        press(tab, "1", "n")
        tab.type("#comment", "half done")
        tab.call("Page.reload")
        tab.wait("document.querySelectorAll('.scored').length === 2")
        assert tab.evaluate("document.querySelector('#comment').value") == "half done"
        assert tab.evaluate("document.querySelector('.criterion.current h3').innerText") == "taste"
        press(tab, "0", "Enter")
        wait_for_answer(queue, items[5])
        wait_for(tab, 6)
        press(tab, "5", "y")
    press(tab, "4", "Enter")  # between two servers
    tab.wait("document.querySelector('#trouble').innerText.includes('nothing that you entered is lost')")
    assert not queue.answers[items[6]]
    with judging(queue, port):
        judge(7, 20)
        tab.wait("document.querySelector('.judging').innerText.includes('Nothing waits for you')")
        assert tab.evaluate("document.querySelector('#trouble').innerText") == ""
        assert tab.evaluate(DRAFTS) == []
    given = [queue.answers[item]["ada"] for item in items]
    usual = ({"layout": 0.6, "valid": 1, "taste": 0.95},)
    assert [each.scores for each in given] == [usual] * 5 + [
        ({"layout": 0.2, "valid": 0, "taste": 0},), ({"layout": 1, "valid": 1, "taste": 0.8},)
    ] + [usual] * 7 + [()] * 6
    assert [each.order for each in given[14:]] == [((1,), (0,))] * 3 + [((1, 2), (0,))] * 3
    assert given[5].comment == "half done" and all(each.comment == "" for each in given[:5])
    assert [event for event, _ in queue.events].count("answer") == 20
    assert not [each for each in tab.complaints if "ERR_CONNECTION" not in each and "401" not in each]


def test_items_are_put_off_skipped_and_given_back_by_keys(tab, judging, come_in):
    queue = FakeQueue()
    for number in range(3):
        queue.put(work(number))
    with judging(queue) as url:
        come_in(url)
        for number, key, event in ((0, "p", "postpone"), (1, "s", "skip"), (2, "u", "give_back")):
            wait_for(tab, number)
            press(tab, key)
            wait_for_event(queue, event, f"item-{number}")
        wait_for(tab, 2)
        press(tab, "5", "1", "2", "Enter")
        wait_for(tab, 0)  # which was put off
        press(tab, "5", "1", "Enter")  # too early
        tab.wait("document.querySelector('#said').innerText === '1 of 3 criteria has no score yet.'")
        assert tab.evaluate("document.querySelector('.criterion.current h3').innerText") == "taste"
        press(tab, "c", "s", "t", "y")  # which are no keys of the page in the comment
        tab.press("Enter", control=True)
        assert tab.evaluate("document.querySelector('#comment').value") == "sty" and len(queue.events) == 4
        press(tab, "Escape", "0", "Enter")
        wait_for_answer(queue, "item-0")
        assert queue.answers["item-0"]["ada"].comment == "sty"
        press(tab, "?")
        tab.wait("document.querySelector('dialog').open")


def test_leases_are_kept_while_somebody_works_and_a_late_answer_is_taken(tab, judging, come_in):
    queue = FakeQueue()
    item = queue.put(work(0))
    with judging(queue, lease=8.0) as url:
        come_in(url)
        wait_for(tab, 0)
        wait_until(lambda: tab.press("ArrowDown") or queue.events.count(("renew", item)) == 2)
        queue.end_lease(item)
        press(tab, "ArrowUp")
        tab.wait("document.querySelector('.clock').innerText.startsWith('The time for this is over')")
        tab.evaluate("document.querySelectorAll('.criterion')[0].focus()")
        press(tab, "5", "1", "2", "Enter")
        wait_for_answer(queue, item)
        assert queue.answers[item]["ada"].seconds >= 1


def test_who_logs_out_leaves_nothing_and_a_wrong_token_is_told(tab, judging, come_in):
    queue = FakeQueue()
    queue.put(work(0))
    with judging(queue) as url:
        come_in(url)
        wait_for(tab, 0)
        press(tab, "5")
        assert len(tab.evaluate(DRAFTS)) == 1 and tab.evaluate("document.cookie") == ""  # no script reads it
        tab.evaluate("[...document.querySelectorAll('#top button')].at(-1).click()")
        tab.wait("document.querySelector('#token')")
        assert tab.evaluate(DRAFTS) == [] and tab.call("Network.getCookies", urls=[url])["cookies"] == []
        tab.type("#token", TOKENS["ada"] + "x")
        tab.press("Enter")
        tab.wait("document.querySelector('.why').innerText.includes('no judge')")


def test_whoever_is_logged_out_meanwhile_comes_in_again_to_their_draft(tab, judging, come_in, tmp_path):
    queue = FakeQueue()
    item = queue.put(work(0))
    with judging(queue) as url:
        come_in(url)
        wait_for(tab, 0)
        press(tab, "5", "y", "2")
        (tmp_path / "sessions").unlink()
        press(tab, "Enter")
        tab.wait("document.querySelector('#token')")
        tab.type("#token", TOKENS["ada"])
        press(tab, "Enter")
        tab.wait("document.querySelectorAll('.scored').length === 3")
        assert not queue.answers[item]
        press(tab, "Enter")
        wait_for_answer(queue, item)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width, height", [(390, 844), (1280, 800)])
def test_every_view_fits_can_be_touched_is_named_and_can_be_read(tab, judging, come_in, width, height, dark):
    parts = (Part("html", "<h1>Hello</h1>"), Part("text", "word " * 300 + "x" * 300), Part("png", PIXEL),
             Part("png", "AAAA"))
    long = Work("Build a page " + "without a blank" * 40, ("a" * 500, "b\u202e\n" * 40), parts)
    queue = FakeQueue()
    for mode, count in (("rubric", 1), ("pairwise", 2), ("ranking", 4)):
        queue.put(*[long] * count, mode=mode, run="runs/" + "name" * 30)
    answers = {"rubric": ("1", "y", "2"), "pairwise": ("ArrowLeft",), "ranking": ("1", "2", "4", "3")}

    def check(view):
        assert tab.evaluate(LOOKS) == NOTHING_WRONG, view

    tab.resize(width, height, dark, mobile=width < 500)
    with judging(queue) as url:
        tab.open(url)
        tab.wait("document.querySelector('#token')")
        check("login")
        come_in(url)
        for mode, keys in answers.items():
            tab.wait(f"document.querySelector('.judging.{mode} .form') && "
                     "!document.querySelector('.submit').disabled")
            tab.evaluate("document.querySelectorAll('summary').forEach(each => each.click())")
            check(mode)
            press(tab, *keys)
            tab.evaluate("document.querySelector('.segments [value=source]').click()")
            check(f"{mode}, answered, with the source")
            press(tab, "Enter")
        tab.wait("document.querySelector('.judging').innerText.includes('Nothing waits for you')")
        check("nothing")
        press(tab, "v")
        tab.wait("document.querySelector('.progress .chart path') && document.querySelector('.kappas')")
        check("progress")
        press(tab, "?")
        check("keys")
