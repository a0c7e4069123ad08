"""A short text for a brief: the sister of the pages for machines without a browser."""
from typing import ClassVar

from jaxrl_moe.judges.records import Part
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.judges.rubrics import SHIPPED, read_rubrics
from jaxrl_moe.serving.tasks.agora.briefs import ITEMS, Brief, brief, count, listed, mentioned
from jaxrl_moe.serving.tasks.agora.markup import has_markup, text_of
from jaxrl_moe.serving.tasks.stop import Stop
from jaxrl_moe.serving.tasks.task import AppEpisode, AppTask, Look
from jaxrl_moe.types import Messages

LONGEST = 20_000  # characters of what is looked at
_SYSTEM = "You write short texts. Answer with the text alone, without markup."
_FORM = """Write a notice for {who}, {what}.
These phrases must stand in it, word for word:
{items}
Its tone is {tone}. It has {least} to {most} words; its first line is a headline with the name, followed by an
empty line."""


class AgoraTexts(AppTask):
    """Short texts."""
    name: ClassVar = "agora_ex_text"
    summary: ClassVar = "Write a short notice for a brief; it is judged by its text."
    tool: ClassVar = ("submit_text", "text", "hands in a text")
    count: ClassVar = count("text")
    rubric: ClassVar[Rubric] = read_rubrics(SHIPPED / "agora_text.json")["agora_text"]
    checks: ClassVar = {
        "has_text": "there is a text",
        "has_headline": "its first line has the name, and an empty line follows",
        **{f"mentions_{number}": f"phrase {number} stands in it" for number in range(1, ITEMS + 1)},
        "has_length": "it has as many words as asked for", "no_markup": "it has no markup"}

    def prepare(self) -> None:
        """Nothing is needed."""

    def _instance(self, seed: int) -> "TextEpisode":
        return TextEpisode(brief("text", seed))


class TextEpisode(AppEpisode):
    """A brief."""

    def __init__(self, asked: Brief):
        tone, (self._least, self._most) = asked.form
        self._asked = asked
        self.brief = _FORM.format(who=asked.who, what=asked.what, items=listed(asked.items), tone=tone,
                                  least=self._least, most=self._most)
        self.facts = {"who": asked.who, "what": asked.what, "items": list(asked.items), "tone": tone,
                      "words": [self._least, self._most]}

    def begin(self) -> Messages:
        return {"role": "system", "content": _SYSTEM}, {"role": "user", "content": self.brief}

    def look(self, text: str, stop: Stop) -> Look:
        written = text_of(text)
        if not written or len(written) > LONGEST:
            why = f"The text has more than {LONGEST} characters." if written else "The answer has no text."
            return Look("", (), dict.fromkeys(AgoraTexts.checks, False), (why,))
        words = len(written.split())
        told = {"has_headline": f"The first line does not have the name {self._asked.who}, or no empty line "
                                "follows it.",
                "has_length": f"It has {words} words; {self._least} to {self._most} are asked for.",
                "no_markup": "It has markup, such as #, ** or tags."}
        told |= {f"mentions_{number}": f'The phrase "{item}" is missing.'
                 for number, item in enumerate(self._asked.items, 1)}
        checks = self._checked(written, words)
        findings = tuple(told[name] for name, kept in checks.items() if not kept)
        return Look(written, (Part("text", written),), checks, findings)

    def _checked(self, text: str, words: int) -> dict[str, bool]:
        first, _, rest = text.partition("\n")
        items = {f"mentions_{number}": mentioned(item, text)
                 for number, item in enumerate(self._asked.items, 1)}
        headline = mentioned(self._asked.who, first) and rest.partition("\n")[0].strip() == "" and bool(
            rest.strip())
        return {"has_text": True, "has_headline": headline, **items,
                "has_length": self._least <= words <= self._most, "no_markup": not has_markup(text)}
