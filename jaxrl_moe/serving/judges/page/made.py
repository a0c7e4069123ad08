"""What a policy made, on its way to a judge's browser, where it is an adversary: HTML goes into a frame that
can do nothing, and a picture is one or is not shown."""
import binascii
import re
import zlib

from fastapi import Response

from jaxrl_moe.judges.records import Part

# A document with an address rather than srcdoc, which would share the policy of the page around it: that
# allows no style that stands in the page, and its server. The frame has no scripts, no forms, no windows and
# an origin like no other, so no cookie, and it loads nothing: what it shows is inside of it. The header holds
# also where somebody opens its address by itself. Where it might go, the policy of the page around it forbids
# (frame-src).
_FRAME = ("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
          "media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
# No policy covers the connections that Chromium opens ahead of a request which it then refuses: for
# rel=preconnect, a frame in the frame, a link under a pressed mouse button. They would tell another server
# that somebody looks. So links lead to where they stand, and elements that load documents are none. This
# finds all, however they are written: names of elements and attributes stand in HTML letter by letter.
_LOADS = re.compile(r"<(?=link|i?frame|object|embed)", re.IGNORECASE)
_LEADS = re.compile(r"(?<!\[)href(?=\s*=)(?!\s*=\s*[\"']?(?:#|data:image/))", re.IGNORECASE)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 64 * 2**20  # a picture of more would take a phone's memory


def frame(html: str) -> Response:
    """A page that a policy wrote, as the document of a frame."""
    harmless = _LEADS.sub('href="#" data-href', _LOADS.sub("<no-", html))
    return Response(harmless.encode("utf-8", "replace"), media_type="text/html; charset=utf-8",
                    headers={"Content-Security-Policy": _FRAME})


def fault_of_picture(part: Part) -> str:
    """Why a part is no PNG that browsers should decode; "" where it is one."""
    try:
        data = part.picture
    except (ValueError, binascii.Error):
        return "it is no base64"
    if not data.startswith(SIGNATURE):
        return "it does not begin as a PNG does"
    names = []
    at = len(SIGNATURE)
    while at < len(data) and names[-1:] != [b"IEND"]:
        name, body, at = _chunk(data, at)
        if not name:
            return f"its chunk {len(names) + 1} is damaged"
        if not names and (name != b"IHDR" or len(body) != 13):
            return "it has no header"
        if not names:
            width, height = (int.from_bytes(body[start:start + 4], "big") for start in (0, 4))
        names.append(name)
    if names[-1:] != [b"IEND"] or at != len(data) or b"IDAT" not in names:
        return "it does not end as a PNG does"
    if not 0 < width * height <= MOST_PIXELS:
        return f"it has {width} x {height} pixels"
    return ""


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """(name, body, where the next begins) of the chunk that begins there; no name where it is damaged."""
    length = int.from_bytes(data[at:at + 4], "big")
    end = at + 8 + length
    body = data[at + 8:end]
    check = data[end:end + 4]
    if len(body) < length or len(check) < 4 or zlib.crc32(data[at + 4:end]) != int.from_bytes(check, "big"):
        return b"", b"", at
    return data[at + 4:at + 8], body, end + 4
