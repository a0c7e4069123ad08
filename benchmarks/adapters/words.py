"""What software said, as it fits into a cell of a table."""
import re

MOST = 160  # characters


def in_one_line(error: object) -> str:
    """The text of an error without line breaks, bars, addresses and folders of this machine; cut where it is
    long."""
    text = " ".join(str(error).split()).replace("|", "/")
    text = re.sub(r"https?://127\.0\.0\.1:\d+\S*", "the server", text)
    text = re.sub(r"(/[\w.+-]+){2,}/", ".../", text)
    return text if len(text) <= MOST else text[:MOST].rstrip() + " ..."
