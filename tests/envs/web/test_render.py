"""Pages are shown as they are, and shut in: a page reaches no server, reads no file, and holds nobody up."""
import contextlib
import functools
import io
import json
import os
import pathlib
import shutil
import threading
import time

import pytest
from matplotlib import image

from jaxrl_moe.envs.web import render as module
from jaxrl_moe.envs.web.render import MOST_HTML, Renderer
from jaxrl_moe.envs.web.sandbox import MEMORY_MIB, browser_path, shut_in
from jaxrl_moe.sandbox import working
from jaxrl_moe.sandbox.pipes import high_pipe
from jaxrl_moe.types import EnvError, UserError
from tests.helpers.chromium import chromium
from tests.helpers.hostile_web import BESIDE, ELSEWHERE, SECRET, filled, trap
from tests.helpers.waiting import wait_until

try:
    Renderer(seconds=60).render("<h1>x</h1>")
    MISSING = ""
except (UserError, EnvError) as error:
    MISSING = str(error)

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"pages cannot be shown here: {MISSING}")
TRUSTING = ("--disable-web-security", "--allow-file-access-from-files",
            "--disable-features=IsolateSandboxedIframes,LocalNetworkAccessChecks")
INSIDE = """
import json, os, socket, sys
def tried(call, *arguments):
    try:
        return str(call(*arguments))
    except OSError as error:
        return type(error).__name__
lines = [line.partition(":") for line in open("/proc/self/status")]
status = {name: value.strip() for name, _, value in lines}
print(json.dumps({"root": sorted(os.listdir("/")), "etc": sorted(os.listdir("/etc")), "uid": os.getuid(),
    "caps": [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "privs": status["NoNewPrivs"],
    "environment": sorted(os.environ), "tmp": os.listdir("/tmp"),
    "connect": tried(socket.create_connection, ("127.0.0.1", int(sys.argv[1])), 2),
    "secret": tried(open, sys.argv[2]), "passwd": tried(open, "/etc/passwd"),
    "write": tried(open, "/usr/lib/x", "w"), "processes": [p for p in os.listdir("/proc") if p.isdigit()],
    "interfaces": [name for _, name in socket.if_nameindex()], "files": sorted(os.listdir("/proc/self/fd"))}))
"""


@pytest.fixture(scope="module")
def renderer():
    return Renderer(seconds=60)


@pytest.fixture
def secret(tmp_path):
    """A file that everybody may read."""
    folder = pathlib.Path("/tmp") / f"readable-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    file = folder / "secret.txt"
    file.write_text(SECRET)
    file.chmod(0o644)
    yield file
    shutil.rmtree(folder)


def test_a_page_is_shown_as_it_is(renderer):
    shown = renderer.render(
        "<!doctype html><title> A title </title><style>body {margin: 0} #box {background: #0f0; "
        "width: 1280px; height: 400px}</style><div id=box></div><h2>Seen</h2>"
        "<h3 style='display: none'>Unseen</h3>"
        "<p>Grüße &amp; more</p><script>document.title = 'by a script'</script>")
    assert shown.title == "A title" and shown.headings == ("Seen",)
    assert "Grüße & more" in shown.text and "Unseen" not in shown.text
    assert (shown.width, shown.height, shown.outside) == (1280, 800, ())
    pixels = decoded(shown.png)
    assert pixels.shape[:2] == (800, 1280)
    assert (pixels[:400, :, :3] == (0, 255, 0)).all() and (pixels[700:, 900:, :3] == 255).all()


def decoded(png):
    """[height, width, channels] by an independent reader."""
    return (image.imread(io.BytesIO(png), format="png") * 255).round().astype(int)


def test_what_reaches_out_of_the_viewport_is_told(renderer):
    """And elements cannot take the place of what the facts are asked of."""
    shown = renderer.render(
        "<!doctype html><title>true</title>"
        "<style>p {position: absolute; width: 50px; height: 20px; margin: 0}</style><h1>one</h1>"
        "<p style='left: 1300px; top: 0'>far<p style='left: -80px; top: 0'>left"
        "<p style='left: 0; top: 900px'>low<p style='left: 0; top: -40px'>high"
        "<p style='left: 1230px; top: 780px'>edge<p style='left: 1300px; display: none'>none"
        "<img name=querySelectorAll><img name=documentElement><img name=title><img id=Document>"
        "<form name=body><input name=innerText><input name=scrollWidth><input name=tagName></form>"
        "<form id=Element></form>")
    told = set(shown.outside)
    assert told >= {"p: far", "p: left", "p: low", "p: high"} and not told & {"p: edge", "p: none"}
    assert (shown.width, shown.height) == (1350, 920)
    assert shown.title == "true" and shown.headings == ("one",) and "one" in shown.text


# (a piece of a page, what it has a browser load)
LOADING = [
    ("<img src='http://x/a.png'>", ["http://x/a.png"]), ("<img src='data:image/png;base64,AA'>", []),
    ("<link rel=stylesheet href=//x/a.css>", ["//x/a.css"]),
    ("<a href='http://x'>x</a><a href='#top'>y</a>", []),
    ("<style>@import 'b.css'; b {background: url( \"c.png\" )}</style>", ["b.css", "c.png"]),
    ("<p style='background: url(d.png)'></p>", ["d.png"]), ("<style>i {background: url(data:x)}</style>", []),
    ("<script>1</script>", ["script"]), ("<p onclick='x()'></p>", ["script"]),
    ("<a href=' JavaScript:x()'>x</a>", ["script"]),
    ("<meta http-equiv=Refresh content='0;url=x'>", ["0;url=x"]), ("<form action=/send></form>", ["/send"]),
    ("<svg><use href='#a'/><image xlink:href='b.svg'/></svg>", ["b.svg"]),
    ("<svg><rect fill='url(e.svg#a)' mask='url(#a)'/></svg>", ["e.svg#a"]),
    ("<p>url(x) @import 'y'</p><!--<img src=z>--><textarea><img src=z></textarea>", []),
    ("<iframe src=f></iframe>", ["f"]), ("<video poster=p src=v></video>", ["p", "v"]),
    ("<base href='http://x/'>", ["http://x/"]), ("<noscript><img src=without></noscript>", ["without"]),
    ("<template><img src=never></template>", []), ("<img src='' alt='url(x)'>", []),
    ("<div><template shadowrootmode=closed><img src=hidden></template></div>", ["hidden"]),
    ("<iframe srcdoc='<img src=inner>'></iframe>", ["inner"]),
    ("<iframe src='data:text/html,<style>@import \"deep.css\"</style>'></iframe>", ["deep.css"])]


def test_what_a_page_loads_is_told_wherever_it_stands(renderer):
    page = "<!doctype html><title>x</title>" + "".join(piece for piece, _ in LOADING)
    expected = [url for _, urls in LOADING for url in urls]
    assert sorted(renderer.render(page).loads) == sorted(expected)
    repeated = "<b style='background: url(b.png)'><p>one<p>two<p>three"  # each p has such a b of its own
    assert renderer.render(repeated).loads == ("b.png",)
    none = "".join(piece for piece, urls in LOADING if not urls)
    assert renderer.render(none).loads == ()


@pytest.mark.slow
def test_the_trap_hears_of_a_browser_that_is_not_shut_in(secret, tmp_path):
    """So that the tests below can fail."""
    page = tmp_path / "page.html"
    with trap() as (url, hits), chromium(tmp_path / "profile") as tab:
        page.write_text(filled(BESIDE, url, secret))
        tab.open(page.as_uri())
        for path in ("fetch", "beacon", "img", "iframe", "sheet", "import", "script", "svg", "srcdoc", "font",
                     "socket", "events", "dynamic", "xhr", "object", "embed", "video", "prefetch", "preload"):
            wait_until(functools.partial(hits.__contains__, f"/{path}"))
        for name, source in ELSEWHERE.items():
            page.write_text(filled(source, url, secret))
            tab.open(page.as_uri())
            if name.endswith("_file"):
                wait_until(functools.partial(shows, tab, SECRET))
            else:
                wait_until(functools.partial(hits.__contains__, f"/{name}"))


def shows(tab, text):
    """Whether it stands on the page that the tab is at by now."""
    try:
        return text in (tab.evaluate("document.body?.innerText") or "")
    except AssertionError:  # it is just being led from one to the next
        return False


@pytest.fixture
def trusting(monkeypatch):
    """A renderer of pages with scripts whose browser asks for nothing itself, so that all depends on what it
    is shut in by."""
    monkeypatch.setattr(module, "_OPTIONS", (*module._OPTIONS, *TRUSTING))
    return Renderer(scripts=True, seconds=60)


def test_no_request_leaves_and_no_file_is_read(secret, trusting):
    with trap() as (url, hits):
        shown = trusting.render(filled(BESIDE, url, secret))
        time.sleep(0.2)
    assert not hits and shown.title == "hostile"
    assert SECRET not in shown.text and "said:" in shown.text


@pytest.mark.slow
def test_without_scripts_neither(secret, renderer):
    with trap() as (url, hits):
        shown = renderer.render(filled(BESIDE, url, secret))
        time.sleep(0.2)
    assert not hits and SECRET not in shown.text and "said:" in shown.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_page_that_leads_elsewhere_by_a_script_gets_nowhere(secret, trusting, name):
    shown = None
    with trap() as (url, hits):
        with contextlib.suppress(EnvError):
            shown = trusting.render(filled(ELSEWHERE[name], url, secret))
        time.sleep(0.2)
    assert not hits and (shown is None or SECRET not in shown.text)


def test_a_page_without_scripts_stays_where_it_is(renderer):
    """Else it could keep itself from being judged."""
    for where in ("about:blank", "http://127.0.0.1:1/"):
        refresh = f"<meta http-equiv=refresh content='0;url={where}'>"
        assert renderer.render(f"{refresh}<base target=_top><h1>x</h1>").headings == ("x",)


def test_a_program_in_the_sandbox_has_nothing(secret, monkeypatch):
    python = pathlib.Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("there is no python of the system to look around with")
    with trap() as (url, hits):
        ends = high_pipe()
        monkeypatch.setenv("SOME_API_KEY", "x")
        with shut_in(python.resolve(), ["-I", "-c", INSIDE, url.rpartition(":")[2], str(secret)], 60.0,
                     *ends) as program:
            done = program.wait()
        for end in ends:
            os.close(end)
    assert done.code == 0, done.stderr
    seen = json.loads(done.stdout)
    assert not hits and seen["connect"] == "ConnectionRefusedError" and seen["interfaces"] == ["lo"]
    assert seen["secret"] == seen["passwd"] == "FileNotFoundError" and seen["write"] == "OSError"
    assert set(seen["root"]) <= {"dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "tmp", "usr", "var"}
    assert set(seen["etc"]) <= {"fonts", "ld.so.cache"} and seen["tmp"] == []
    assert seen["uid"] != 0 and set(seen["caps"]) == {"0" * 16} and seen["privs"] == "1"
    assert not any("KEY" in name for name in seen["environment"]) and len(seen["processes"]) <= 2
    assert set(seen["files"]) <= {"0", "1", "2", "3", "4", "5"}


def test_the_browsers_own_sandbox_is_on(renderer, monkeypatch):
    """Looked at from outside while a page is shown."""
    found = {}

    def facts(self, tools, frame):
        found.update(processes(f"{renderer._browser}"))
        return original(self, tools, frame)
    original = Renderer._facts
    monkeypatch.setattr(Renderer, "_facts", facts)
    renderer.render("<h1>x</h1>")
    assert found["browser"] and found["renderer"]
    for status in (status for kind in found.values() for status in kind):
        assert "0" not in status["Uid"].split() and int(status["CapEff"], 16) & ~0x200000 == 0
        assert status["NoNewPrivs"] == "1"
    for status in found["renderer"]:
        assert status["Seccomp"] == "2" and len(status["NSpid"].split()) > 2  # ours, bubblewrap's, its own


def processes(program):
    """{type: [status]} of the browsers that this process has started in a sandbox."""
    running = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            lines = (folder / "status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            running[folder.name] = (folder / "cmdline").read_text().replace("\0", " "), status
    found = {}
    for command, status in running.values():
        if command.startswith(program) and len(status["NSpid"].split()) > 1 and is_ours(status, running):
            kind = command.partition("--type=")[2].partition(" ")[0] or "browser"
            found.setdefault(kind, []).append(status)
    return found


def is_ours(status, running):
    """Whether a process descends from this one."""
    while status is not None and status["PPid"] != str(os.getpid()):
        status = running.get(status["PPid"], (None, None))[1]
    return status is not None


@pytest.mark.slow
def test_a_page_that_hangs_ends_in_time_and_leaves_no_process():
    renderer = Renderer(scripts=True, seconds=5)
    with pytest.raises(EnvError, match="did not show a page within 5 seconds"):
        renderer.render("<script>while (true) {}</script>")
    time.sleep(0.2)
    assert not processes(str(renderer._browser))


@pytest.mark.slow
def test_another_thread_ends_a_browser():
    renderer = Renderer(scripts=True, seconds=60)

    def started(end):
        threading.Timer(1.0, end).start()
    began = time.monotonic()
    with pytest.raises(EnvError):
        renderer.render("<script>while (true) {}</script>", started)
    assert time.monotonic() - began < 50


@pytest.mark.slow
def test_a_page_that_takes_all_memory_is_an_error_and_not_the_machines_end():
    buffers = """<script>let all = [];
        try { for (;;) { all.push(new Uint8Array(2**27)); all.at(-1).fill(1); } }
        catch (error) { document.title = all.length; }</script>"""
    renderer = Renderer(scripts=True, seconds=120)
    assert 2**27 * int(renderer.render(buffers).title) < MEMORY_MIB * 2**20
    with pytest.raises(EnvError, match="used up its memory"):
        renderer.render("<script>let all = []; for (;;) all.push(new Array(1e6).fill(1.5))</script>")


def test_what_is_too_large_is_refused(renderer):
    with pytest.raises(ValueError, match="at most 262144"):
        renderer.render("x" * (MOST_HTML + 1))
    largest = "<p>x<!--".ljust(MOST_HTML - 3, "-") + "-->"
    first = renderer.render(largest)
    assert first.text == "x" and first.png == renderer.render(largest).png


@pytest.mark.slow
def test_a_picture_that_is_too_large_is_refused(renderer, monkeypatch):
    monkeypatch.setattr(module, "MOST_PNG", 1000)
    with pytest.raises(EnvError, match="picture of more than 1000 bytes"):
        renderer.render("<h1>Some text</h1>")


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="packages `bubblewrap` and `chromium`, .*--name=agora_ex_text"):
        browser_path(str(tmp_path / "none"))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match="is a script"):
        browser_path(str(script))
    monkeypatch.setattr(working, "why_not", lambda way: "it is not installed")
    working.working_way.cache_clear()
    with pytest.raises(UserError, match="bubblewrap: it is not .*; namespaces: .*--name=agora_ex_text"):
        Renderer()


