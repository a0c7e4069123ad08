"""What a policy made: which pictures are shown, and what becomes of its pages."""
import base64
import io
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


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
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
    (made.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31, 2**31, 8, 2, 0, 0, 0)) + PIXELS + END, "pixels"),
    (made.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 9, 8, 2, 0, 0, 0)) + PIXELS + END, "pixels")])
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


@pytest.mark.parametrize("tag", ["<link rel=preconnect href=//x>", "<LINK rel=preconnect href=//x>",
                                 "<lInK/rel=preconnect href=//x>", "<link\nrel=preconnect href=//x>"])
def test_nothing_connects_from_a_frame(tag):
    body = made.frame(f"<p>{tag}</p>").body
    assert b"<link" not in body.lower() and b"<p><no-" in body


def test_other_pages_are_framed_as_they_are_written():
    html = "<!doctype html><p style='color:red'>\ufeffblinking links \U0001f642"
    assert made.frame(html).body.decode() == html and made.frame("\ud800").body == b"?"
