"""The words of a title that name what it is: by them WebShop tells whether another kind of thing was bought.

WebShop asks spaCy's model en_core_web_lg which words are nouns. Without it all words count but numbers, words
that only join others, and a list of adjectives: that can judge another kind of thing more kindly, or more
harshly, and nothing where the very product was bought that the goal was made of.
"""
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxrl_moe.types import UserError

Nouns = Literal["list", "spacy"]
NounsOf = Callable[[str], Sequence[str]]
SPACY_MODEL = "en_core_web_lg"
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NO_NOUNS = frozenset("""
a an and as at by for from in into of off on or per plus the to under up with without adjustable anti black
blue bright brown casual clean clear cold compact dark deep dry durable easy elastic extra fast flat
foldable free gentle gluten gray green grey heavy high hot insulated large lasting light lightweight long
loose low machine medium mini modern natural new non oil organic portable proof quick quiet rechargeable red
regular reusable rich safe scented sensitive short slim slip small soft solid stainless steady sturdy sweet
thick thin ultra unscented vegan warm washable waterproof white wide wireless wooden
""".split())


def listed_nouns(title: str) -> list[str]:
    """The words of a title, in lower case, that no list says are no nouns."""
    return [word for word in _WORD.findall(title.lower()) if word not in _NO_NOUNS and len(word) > 1]


def nouns_by(name: Nouns) -> NounsOf:
    """How nouns are told.

    Raises:
      UserError: it is spaCy, which is not installed with its model.
    """
    return listed_nouns if name == "list" else _spacy_nouns()


@functools.cache
def _spacy_nouns() -> NounsOf:
    try:
        import spacy
        model: Any = spacy.load(SPACY_MODEL)
    except (ImportError, OSError) as error:
        raise UserError(f"nouns = 'spacy' needs the package spacy and its model {SPACY_MODEL}: pip install "
                        f"spacy, then python -m spacy download {SPACY_MODEL}. Or leave nouns = 'list'."
                        ) from error

    def nouns(title: str) -> list[str]:
        return [token.text.lower() for token in model(title) if token.pos_ in ("NOUN", "PROPN")]
    return functools.lru_cache(4096)(nouns)
