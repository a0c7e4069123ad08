"""What a policy made: which pictures are shown, and what becomes of its pages."""
import base64
import html.parser
import io
import re
import struct
import zlib

import numpy as np
import pytest
from matplotlib import image

from jaxrl_moe.judges.queue.queue import Lease
from jaxrl_moe.judges.records import Ask, Part, Work
from jaxrl_moe.serving.judges.page import made
from jaxrl_moe.serving.judges.page.shown import shown_lease
from tests.helpers.fake_queue import RUBRIC


def png(width=3, height=2):
    """A picture as an encoder that is not ours writes it."""
    file = io.BytesIO()
    image.imsave(file, np.zeros((height, width, 3), np.uint8), format="png")
    return file.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def fault(data):
    return made.fault_of_picture(Part("png", base64.b64encode(data).decode()))


def header(width, height):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


HEADER = header(3, 2)
PIXELS = chunk(b"IDAT", zlib.compress(b"\0" * 20))
END = chunk(b"IEND", b"")


@pytest.mark.parametrize("data", [png(), png(400, 300), made.SIGNATURE + HEADER + PIXELS + END])
def test_pictures_are_shown(data):
    assert fault(data) == ""


@pytest.mark.parametrize("data, words", [
    (b"", "begin"), (b"<svg onload=alert(1)>", "begin"), (b"\xff\xd8\xff\xe0JFIF", "begin"),
    (b"\x89PNG\r\n\x1a\n", "end"), (b"\x89PNG\r\n\x1a\n<script>alert(1)</script>", "damaged"),
    (made.SIGNATURE + HEADER + PIXELS, "end"), (made.SIGNATURE + HEADER + END, "end"),
    (made.SIGNATURE + PIXELS + END, "no header"), (made.SIGNATURE + HEADER + PIXELS + END + b"x", "end"),
    (made.SIGNATURE + chunk(b"IHDR", b"x") + PIXELS + END, "no header"),
    (made.SIGNATURE + header(2**31, 2**31) + PIXELS + END, "pixels"),
    (made.SIGNATURE + header(0, 9) + PIXELS + END, "pixels")])
def test_what_is_no_picture_is_not_shown(data, words):
    assert words in fault(data)


def test_a_picture_in_which_any_byte_is_damaged_is_not_shown():
    data = png()
    for place in range(len(data)):
        assert fault(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1:]), place
    assert all(fault(data[:place]) for place in range(len(data)))


def test_what_is_no_base64_is_no_picture():
    assert made.fault_of_picture(Part("png", "abc")) == "it is no base64"


def test_parts_become_what_the_page_may_show():
    picture = base64.b64encode(png()).decode()
    parts = (Part("text", "\ud800 said"), Part("html", "<b>"), Part("png", picture), Part("png", "PHN2Zz4="))
    works = (Work("task", ("turn",), parts), Work("task", ("only",)))
    shown = shown_lease(Lease("a/b", "item", works, Ask(RUBRIC, run="secret"), 0.0))
    assert [part["kind"] for part in shown["works"][0]["parts"]] == ["text", "html", "png", "broken"]
    assert shown["works"][0]["parts"][1]["frame"] == "/frame/a%2Fb/0/1"
    assert shown["works"][0]["parts"][2]["content"] == picture
    assert shown["works"][1]["parts"] == [{"kind": "text", "content": "only"}]
    assert shown["seconds_left"] == 0 and shown.keys() == {"token", "mode", "rubric", "works", "seconds_left"}


@pytest.mark.parametrize("tag", [
    "<link rel=preconnect href=//x>", "<LINK/rel=preconnect HREF=//x>", "<lInK\nrel=preconnect>",
    "<iframe src=//x>", "<IFrame/src=//x>", "<frame src=//x>", "<object data=//x>", "<embed src=//x>",
    "<frameset>"])
def test_nothing_in_a_frame_loads_another_document(tag):
    body = made.frame(f"<p>{tag}</p>").body
    assert body.startswith(b"<p><no-")
    assert not re.search(rb"<(link|i?frame|object|embed)", body, re.IGNORECASE)


class Links(html.parser.HTMLParser):
    """Where the first of each element's hrefs leads, which is the one that counts."""
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        first = dict(reversed(attributes))
        self.found += [first[name] for name in ("href", "xlink:href") if name in first]


@pytest.mark.parametrize("link", [
    "<a href='//x'>", '<a href="//x">', "<a href=//x>", "<a HREF\t=\n'//x'>", "<a/href=//x>",
    "<a title='a'href=//x>", "<a href = //x href='#a'>", "<area href=' //x'>", "<a href='&#47;/x'>",
    "<svg><a xlink:href='//x'>", "<a href=javascript:x>", "<a href='data:text/html,x'>"])
def test_links_in_a_frame_lead_to_where_they_stand(link):
    links = Links()
    links.feed(made.frame(link).body.decode())
    assert links.found == ["#"]


@pytest.mark.parametrize("html", [
    "<!doctype html><p style='color:red'>\ufeffblinking links \U0001f642", "<use href='#icon'><a href=#top>",
    "<image href='data:image/png;base64,AAAA'>", "<style>a[href='x']{color:red}a[href^=x]{}</style>"])
def test_what_is_harmless_is_framed_as_it_is_written(html):
    assert made.frame(html).body.decode() == html


def test_what_no_encoding_holds_does_not_fail():
    assert made.frame("\ud800").body == b"?"
