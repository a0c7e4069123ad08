"""The judges' page in a real browser: judging by keys alone, what it survives, and how it looks on a phone."""
import base64
import time

import pytest

from jaxrl_moe.judges.records import Part, Work
from tests.helpers.fake_queue import TOKENS, FakeQueue
from tests.helpers.waiting import wait_until

PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FORM = "document.querySelector('.form')"
FOCUSED = "document.activeElement.className"


def work(number):
    return Work(f"Build page {number}.", (f"<h1>Page {number}</h1>",), (Part("html", f"<h1>Page {number}</h1>"),))


def shown(number):
    """Whether the item of that number is on the page."""
    return f"document.querySelector('.task .text')?.innerText === 'Build page {number}.' && !document.querySelector('.submit').disabled"


def rate(tab, *keys):
    for key in keys:
        tab.press(key)


def test_a_queue_of_20_is_judged_by_keys_over_a_reload_and_a_restart_of_the_server(tab, judging, come_in):
    queue = FakeQueue()
    modes = ["rubric"] * 14 + ["pairwise"] * 3 + ["ranking"] * 3
    counts = {"rubric": 1, "pairwise": 2, "ranking": 3}
    items = [queue.put(*[work(number)] * counts[mode], mode=mode) for number, mode in enumerate(modes)]
    keys = {"rubric": ("3", "y", "5", "ArrowLeft"), "pairwise": ("ArrowRight",), "ranking": ("2", "=", "3", "1")}

    def judge(first, last):
        for number in range(first, last):
            tab.wait(shown(number))
            rate(tab, *keys[modes[number]], "Enter")
            wait_until(lambda: queue.answers[items[number]])

    with judging(queue) as url:
        port = int(url.rsplit(":", 1)[1])
        come_in(url)
        judge(0, 5)
        tab.wait(shown(5))
        rate(tab, "1", "n")
        tab.type("#comment", "half done")
        tab.call("Page.reload")
        tab.wait(f"{shown(5)} && document.querySelectorAll('.scored').length === 2")
        assert tab.evaluate("document.querySelector('#comment').value") == "half done"
        tab.wait("document.querySelector('.criterion.current h3').innerText === 'taste'")
        rate(tab, "Escape")
        tab.evaluate("document.activeElement.blur()")
        rate(tab, "0", "Enter")
        wait_until(lambda: queue.answers[items[5]])
        tab.wait(shown(6))
        rate(tab, "5", "y")
    # between two servers
    rate(tab, "4", "Enter")
    tab.wait("document.querySelector('#trouble').innerText.includes('nothing that you entered is lost')")
    assert not queue.answers[items[6]]
    with judging(queue, port) as url:
        judge(7, 20)
        tab.wait("document.querySelector('.judging').innerText.includes('Nothing waits for you')")
        assert tab.evaluate("document.querySelector('#trouble').innerText") == ""
        assert tab.evaluate("Object.keys(localStorage).filter(key => key.startsWith('draft'))") == []
    given = [queue.answers[item]["ada"] for item in items]
    assert [each.scores for each in given] == [({"layout": 0.6, "valid": 1, "taste": 0.95},)] * 5 + [
        ({"layout": 0.2, "valid": 0, "taste": 0},), ({"layout": 1, "valid": 1, "taste": 0.8},)] + [
            ({"layout": 0.6, "valid": 1, "taste": 0.95},)] * 7 + [()] * 6
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
            tab.wait(shown(number))
            rate(tab, key)
            wait_until(lambda: queue.events[-1:] == [(event, f"item-{number}")])
        tab.wait(shown(2))
        rate(tab, "5", "1", "2", "Enter")
        tab.wait(shown(0))  # which was put off
        rate(tab, "5", "1", "Enter")  # too early
        tab.wait("document.querySelector('#said').innerText === '1 of 3 criteria has no score yet.'")
        assert tab.evaluate("document.querySelector('.criterion.current h3').innerText") == "taste"
        rate(tab, "c")
        for letter in "sty":
            rate(tab, letter)  # which are no keys of the page there
        tab.press("Enter", control=True)
        assert tab.evaluate("document.querySelector('#comment').value") == "sty" and len(queue.events) == 4
        rate(tab, "Escape", "0", "Enter")
        wait_until(lambda: queue.answers["item-0"])
        assert queue.answers["item-0"]["ada"].comment == "sty"
        rate(tab, "?")
        tab.wait("document.querySelector('dialog').open")


def test_leases_are_kept_while_somebody_works_and_a_late_answer_is_taken(tab, judging, come_in):
    queue = FakeQueue()
    item = queue.put(work(0))
    with judging(queue, lease=4.0) as url:
        come_in(url)
        tab.wait(shown(0))
        end = time.monotonic() + 6
        while time.monotonic() < end:
            tab.press("ArrowDown")
            time.sleep(0.3)
        assert queue.events.count(("renew", item)) >= 2
        queue.end_lease(item)
        rate(tab, "ArrowUp")
        tab.wait("document.querySelector('.clock').innerText.startsWith('The time for this is over')")
        tab.evaluate("document.querySelectorAll('.criterion')[0].focus()")
        rate(tab, "5", "1", "2", "Enter")
        wait_until(lambda: queue.answers[item])
        assert queue.answers[item]["ada"].seconds >= 4


def test_who_logs_out_leaves_nothing_and_a_wrong_token_is_told(tab, judging, come_in):
    queue = FakeQueue()
    queue.put(work(0))
    with judging(queue) as url:
        come_in(url)
        tab.wait(shown(0))
        rate(tab, "5")
        assert tab.evaluate("document.cookie") == ""  # no script can read it
        tab.evaluate("[...document.querySelectorAll('#top button')].at(-1).click()")
        tab.wait("document.querySelector('#token')")
        assert tab.evaluate("Object.keys(localStorage).filter(key => key.startsWith('draft'))") == []
        assert tab.call("Network.getCookies", urls=[url])["cookies"] == []
        tab.type("#token", TOKENS["ada"] + "x")
        tab.press("Enter")
        tab.wait("document.querySelector('.why').innerText.includes('no judge')")


SMALL = """[...document.querySelectorAll('button, input, textarea, summary, select, a[href]')].filter(each => {
  const box = each.getBoundingClientRect();
  return each.offsetParent && box.width && (box.width < 43.5 || box.height < 43.5) && !each.closest('.jump, dialog:not([open])') &&
    !each.classList.contains('jump');
}).map(each => each.outerHTML.slice(0, 120))"""
WIDE = """[document.documentElement.scrollWidth, document.getElementById('main').scrollWidth].some(width => width > innerWidth)"""
UNNAMED = """[...document.querySelectorAll('button, input, textarea, iframe, img, [role=group]')].filter(each =>
  !each.innerText?.trim() && !each.ariaLabel && !each.title && !each.alt && !each.labels?.length &&
  !each.getAttribute('aria-labelledby')).map(each => each.outerHTML.slice(0, 120))"""
# The text of the page whose contrast with what is behind it is below 4.5 to 1, as WCAG 2 reckons it.
FAINT = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const over = (colour, under) => {
    canvas.fillStyle = `rgb(${under.join()})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const back = element => element ? over(getComputedStyle(element).backgroundColor, back(element.parentElement)) : [255, 255, 255];
  const light = rgb => rgb.map(each => each / 255).map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility({visibilityProperty: true}) || element.closest(':disabled, .jump, noscript')) continue;
    const under = back(element);
    const style = getComputedStyle(element);
    const own = over(element instanceof SVGElement ? style.fill : style.color, under);
    const [more, less] = [light(own), light(under)].sort((a, b) => b - a);
    if ((more + 0.05) / (less + 0.05) < 4.5) faint.push([walk.currentNode.data.slice(0, 40), (more + 0.05) / (less + 0.05)]);
  }
  return faint;
})()"""


@pytest.mark.parametrize("width, height, dark", [(390, 844, False), (390, 844, True), (1280, 800, False), (1280, 800, True)])
def test_every_view_fits_can_be_touched_named_and_read(tab, judging, come_in, width, height, dark):
    long = Work("Build a page " + "without a blank" * 40, ("a" * 500, "b\u202e\n" * 40), (
        Part("html", "<h1>Hello</h1>"), Part("text", "word " * 300 + "x" * 300), Part("png", PIXEL), Part("png", "AAAA")))
    queue = FakeQueue()
    for mode, count in (("rubric", 1), ("pairwise", 2), ("ranking", 4)):
        queue.put(*[long] * count, mode=mode, run="runs/" + "name" * 30)

    def check(view):
        for script in (SMALL, UNNAMED, FAINT):
            assert tab.evaluate(script) == [], view
        assert not tab.evaluate(WIDE), view

    tab.resize(width, height, dark, mobile=width < 500)
    with judging(queue) as url:
        tab.open(url)
        tab.wait("document.querySelector('#token')")
        check("login")
        come_in(url)
        for mode, keys in (("rubric", ("1", "y", "2")), ("pairwise", ("ArrowLeft",)), ("ranking", ("1", "2"))):
            tab.wait(f"document.querySelector('.judging.{mode} .form') && !document.querySelector('.submit').disabled")
            tab.evaluate("document.querySelectorAll('summary').forEach(each => each.click())")
            check(mode)
            rate(tab, *keys)
            check(f"{mode}, answered")
            if mode == "rubric":
                tab.evaluate("[...document.querySelectorAll('.segments button')].find(each => each.value === 'source').click()")
                check("source")
            rate(tab, *([] if mode == "ranking" else ["Enter"]))
        rate(tab, "v")
        tab.wait("document.querySelector('.progress .chart path') && document.querySelector('.kappas')")
        check("progress")
        assert tab.evaluate("document.querySelectorAll('.looked-at, .escape').length >= 0")
