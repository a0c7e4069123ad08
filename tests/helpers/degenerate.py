"""Texts as degenerate policies write them: one thing over and over, on which readers that try again and again
take quadratic time."""
import contextlib
import time

SIZE = 2**18
CPU_SECONDS = 2.0  # of this thread, where readers take milliseconds and quadratic ones minutes
PATTERNS = {name: (piece * SIZE)[:SIZE] for name, piece in {
    "tags": "<a ", "tag": "<a", "ends": "</", "nested": "<div>", "comments": "<!--", "ampersands": "&",
    "quotes": '"', "less": "<", "attributes": "<a b='", "letters": "a", "newlines": "\n", "spaces": " ",
    "brackets": "[", "objects": '{"a":', "digits": "9", "stars": "*", "links": "](", "fences": "```\n",
    "ticks": "`", "urls": "url(", "imports": "@import ", "hrefs": "href=", "actions": "Action:",
    "thoughts": "<think>", "ends of thoughts": "</think>", "keys": '"a":1,', "backslashes": "\\"}.items()}
# one beginning, and then much of what may follow it
PATTERNS |= {"fence": "```html" + " " * SIZE, "bare fence": "```" + "\t " * (SIZE // 2),
             "url": "<style>url(" + " " * SIZE, "import": "<style>@import" + " " * SIZE,
             "href": "href" + " " * SIZE, "page": "<!doctype html>" + "<a " * (SIZE // 3),
             "page in a fence": "```html\n" + "<a " * (SIZE // 3 - 9), "object": '{"' + "a" * SIZE + '":1}'}


@contextlib.contextmanager
def linear():
    """Fails where the block takes more of the processor than a reader by length does."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < CPU_SECONDS
