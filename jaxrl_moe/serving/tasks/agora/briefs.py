"""Briefs: who wants something written, what must stand in it, and how it shall look."""
import functools
import itertools
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

ITEMS = 3  # of a subject's six stand in a brief

# (who, what they are to be found by) -> phrases of which some must be seen, word for word
SUBJECTS = {
    ("Spoke & Chain", "a bicycle repair workshop"): (
        "Free brake check", "Open until 19:00", "12 Canal Street", "Same-day repairs", "Rental bikes",
        "Winter service: 49 euros"),
    ("Night Oven", "a bakery that opens at four in the morning"): (
        "Rye bread", "Open from 4:00", "Order by phone: 555 0142", "No preservatives",
        "Market stall on Saturdays", "Seven kinds of rolls"),
    ("Harbour Choir", "an amateur choir in a port town"): (
        "Rehearsals on Tuesdays", "Tenors wanted", "Summer concert: 14 June", "No audition",
        "Old Customs House", "Founded in 1962"),
    ("Tidepool", "a small aquarium for children"): (
        "Feeding time: 15:30", "Under fives free", "Touch the starfish", "Closed on Mondays",
        "Octopus nursery", "Birthday parties"),
    ("Lumen", "a shop for second-hand lamps"): (
        "Rewired and tested", "Two-year guarantee", "From 18 euros", "We buy old lamps", "Workshop visits",
        "Delivery in town"),
    ("Greenhouse 9", "a community garden on a roof"): (
        "Free seedlings", "Compost course", "Open day: 3 May", "40 raised beds", "Bring your own gloves",
        "Waiting list: six weeks"),
    ("Paper Planet", "a mail-order shop for atlases and globes"): (
        "Free shipping over 60 euros", "School discount: 15 %", "New: ocean floor map",
        "Return within 30 days", "Hand-made globes", "Catalogue by post"),
    ("Ferry 7", "a river ferry that people use to get to work"): (
        "Every 12 minutes", "Bicycles welcome", "Last ferry: 23:40", "Monthly pass: 38 euros",
        "Not in heavy fog", "Pier at Mill Road"),
    ("Stargazers", "an observatory run by volunteers"): (
        "Meteor night: 12 August", "Wear warm clothes", "Telescopes to borrow", "Admission free",
        "Red light only", "Talks at 21:00"),
    ("Loom & Line", "a weaving studio that gives courses"): (
        "Beginners welcome", "Wool included", "Six people at most", "Weekend course: 120 euros",
        "Natural dyes", "Vouchers"),
    ("Quiet Carriage", "a library in an old railway coach"): (
        "Lend up to five books", "No late fees", "Open after school", "Picture books", "Story hour: Fridays",
        "Donations welcome"),
    ("Summit Line", "a mountain hut with thirty beds"): (
        "Hot soup until 20:00", "Book two weeks ahead", "No mobile signal", "Dogs by arrangement",
        "Snow shoes to rent", "Path closed in April"),
}
STYLES = ("calm and plain", "bold, with strong contrast", "warm and inviting", "like a printed poster",
          "like a page of a newspaper", "playful, for children too")
LAYOUTS = ("a header, three cards side by side, and a footer",
           "one large headline with a short list under it",
           "two columns of equal width", "a table of facts under a short introduction",
           "a banner on top and the facts beside each other below")
COLOURS = ("dark blue and yellow", "green and cream", "black, white and one red", "orange and brown",
           "pale grey and violet", "teal and white")
TONES = ("friendly", "matter-of-fact", "a little humorous", "urgent", "formal")
LENGTHS = ((40, 80), (60, 110), (90, 150))  # words of a text
_CHOICES = tuple(itertools.combinations(range(6), ITEMS))
_FORMS = {"page": (STYLES, LAYOUTS, COLOURS), "text": (TONES, LENGTHS)}


class Brief(NamedTuple):
    """What is asked for: by whom, of what kind, with which phrases, and in which form."""
    who: str
    what: str
    items: tuple[str, ...]
    form: tuple


def count(form: str) -> int:
    """So many briefs there are of a form, page or text."""
    total = len(SUBJECTS) * len(_CHOICES)
    for options in _FORMS[form]:
        total *= len(options)
    return total


def brief(form: str, seed: int) -> Brief:
    """The brief of a seed below count(form); each seed has another one."""
    at, subject = divmod(_order(form)[seed], len(SUBJECTS))
    at, choice = divmod(at, len(_CHOICES))
    chosen = []
    for options in _FORMS[form]:
        at, option = divmod(at, len(options))
        chosen.append(options[option])
    who, what = list(SUBJECTS)[subject]
    phrases = SUBJECTS[who, what]
    return Brief(who, what, tuple(phrases[index] for index in _CHOICES[choice]), tuple(chosen))


@functools.cache
def _order(form: str) -> Sequence[int]:
    """All briefs in an order in which neighbours have nothing in common."""
    order = list(range(count(form)))
    random.Random(0).shuffle(order)
    return order


def listed(items: tuple[str, ...]) -> str:
    """Items as lines."""
    return "\n".join(f"- {item}" for item in items)


def mentioned(item: str, text: str) -> bool:
    """Whether a text has an item word for word; case and spaces do not count."""
    return _plain(item) in _plain(text)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).casefold().strip()
