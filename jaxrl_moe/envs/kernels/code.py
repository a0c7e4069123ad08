"""The code in an answer."""
import re

from jaxrl_moe.envs.answers import answer_part

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n`]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL
                    | re.MULTILINE)
_LANGUAGES = {"", "python", "py", "python3", "triton"}


def last_code(answer: str) -> str | None:
    """The last block of Python between fences, of what follows the thinking; None where there is none, or
    where it does not end.

    A block that was begun and not ended was cut, and what stands before it is no answer.
    """
    text = answer_part(answer)
    blocks = list(_FENCE.finditer(text))
    if not blocks or re.search(r"^[ \t]*(?:`{3,}|~{3,})", text[blocks[-1].end():], re.MULTILINE):
        return None
    ours = [match[3] for match in blocks if match[2].lower() in _LANGUAGES]
    return ours[-1] if ours else None
