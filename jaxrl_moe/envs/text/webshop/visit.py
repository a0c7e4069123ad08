"""A visit to the shop: what commands do, from the first search to the purchase."""
import re
from collections.abc import Sequence

from jaxrl_moe.envs.text.webshop import pages
from jaxrl_moe.envs.text.webshop.catalogue import Shop
from jaxrl_moe.envs.text.webshop.nouns import NounsOf
from jaxrl_moe.envs.text.webshop.pages import Page
from jaxrl_moe.envs.text.webshop.products import Product, ShoppingGoal
from jaxrl_moe.envs.text.webshop.reward import Purchase, Worth, worth
from jaxrl_moe.spelling import cut, escaped

LONGEST_COMMAND = 1000  # characters
_COMMAND = re.compile(r"(search|click) (.*)")


class CannotDoError(Exception):
    """A command is impossible; the message is for who gave it."""


class Visit:
    """One buyer with a goal.

    Attributes:
      goal: as given.
      page: that is shown.
      bought: what the purchase was worth; None before.
    """

    def __init__(self, shop: Shop, goal: ShoppingGoal, nouns_of: NounsOf, show_attributes: bool = False):
        self._index = shop.index
        self._nouns_of = nouns_of
        self._show_attributes = show_attributes
        self.goal = goal
        self.bought: Worth | None = None
        self._found: Sequence[Product] = ()
        self._number = 1               # of the page of results
        self._product: Product | None = None
        self._options: dict[str, str] = {}
        self._in_sub_page = False
        self.page: Page = pages.search_page(goal.instruction)

    def do(self, command: str) -> None:
        """Carries out `search WORDS` or `click THING`, of which case does not matter. As in WebShop there may
        be a search from every page.

        Raises:
          CannotDoError: it is impossible; nothing was done.
        """
        if len(command) > LONGEST_COMMAND:
            raise CannotDoError(f"A command of {len(command)} characters is too long: write one of at most "
                                f"{LONGEST_COMMAND}.")
        match = _COMMAND.fullmatch(_spaced(command))
        if not match:
            raise CannotDoError("There are two commands, search[words] and click[thing].")
        if match[1] == "search":
            self._search(match[2])
        else:
            self._click(match[2])

    def _search(self, words: str) -> None:
        self._found = self._index.search(words)
        self._show_results(1)

    def _show_results(self, number: int) -> None:
        self._number = number
        self._product = None
        self._options = {}
        self._in_sub_page = False
        self.page = pages.results_page(self.goal.instruction, self._found, number)

    def _click(self, thing: str) -> None:
        spelt = {_spaced(clickable): clickable for clickable in self.page.clickables}
        if thing not in spelt or thing == pages.SEARCH.lower():
            raise CannotDoError(f"{_shown(thing)} cannot be clicked here. {self._possible()}")
        leads_to = {pages.BUY.lower(): self._buy, pages.TO_SEARCH.lower(): self._to_search,
                    pages.NEXT.lower(): lambda: self._show_results(self._number + 1),
                    pages.BACK.lower(): self._back}
        leads_to |= {name.lower(): lambda name=name: self._show_sub_page(name) for name in pages.SUB_PAGES}
        leads_to.get(thing, lambda: self._choose(spelt[thing]))()

    def _possible(self) -> str:
        clickables = ", ".join(thing for thing in self.page.clickables if thing != pages.SEARCH.lower())
        return f"What can be: {clickables}." if clickables else "Search first, by search[words]."

    def _to_search(self) -> None:
        self._product = None
        self._options = {}
        self._in_sub_page = False
        self.page = pages.search_page(self.goal.instruction)

    def _back(self) -> None:
        if self._in_sub_page:
            self._show_item()
        else:
            self._show_results(self._number if self._product else self._number - 1)

    def _show_sub_page(self, name: str) -> None:
        assert self._product
        self._in_sub_page = True
        self.page = pages.sub_page(self.goal.instruction, self._product, name)

    def _choose(self, thing: str) -> None:
        """An option of the product that is shown, or a product of the results."""
        if self._product is None:
            self._product = next(product for product in self._found if product.asin.lower() == thing)
        else:
            name = [name for name, values in self._product.options.items() if thing in values][-1]
            self._options[name] = thing
        self._show_item()

    def _show_item(self) -> None:
        assert self._product
        self._in_sub_page = False
        self.page = pages.item_page(self.goal.instruction, self._product, self._show_attributes)

    def _buy(self) -> None:
        assert self._product
        purchase = Purchase(self._product, tuple(self._options.values()))
        self.bought = worth(purchase, self.goal, self._nouns_of)
        self.page = pages.done_page(self.bought.reward)


def _spaced(words: str) -> str:
    """In lower case, with single spaces."""
    return " ".join(words.lower().split())


def _shown(words: str) -> str:
    return cut(escaped(words), 80)
