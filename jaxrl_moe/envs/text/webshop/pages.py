"""The pages of the shop, as WebShop's text mode shows them: what stands on a page, with [SEP] between."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxrl_moe.envs.text.webshop.products import Product

BUY = "Buy Now"
NEXT = "Next >"
BACK = "< Prev"
TO_SEARCH = "Back to Search"
DESCRIPTION = "Description"
FEATURES = "Features"
REVIEWS = "Reviews"
ATTRIBUTES = "Attributes"
SUB_PAGES = (DESCRIPTION, FEATURES, REVIEWS, ATTRIBUTES)
SEARCH = "Search"
A_PAGE = 10  # results
_SEPARATOR = " [SEP] "


class Page(NamedTuple):
    """What is shown, and what of it can be clicked, in lower case but for options, which are in their own.

    Attributes:
      can_search: whether it has a search bar.
    """
    text: str
    clickables: tuple[str, ...]
    can_search: bool = False


def search_page(instruction: str) -> Page:
    """Where a visit begins."""
    return Page(_joined(["WebShop", *_headed(instruction), SEARCH]), (SEARCH.lower(),), True)


def results_page(instruction: str, found: Sequence[Product], number: int) -> Page:
    """Ten of what was found, from page 1 on; beyond the last there are pages without any."""
    shown = found[(number - 1) * A_PAGE:number * A_PAGE]
    buttons = [BACK, NEXT] if number > 1 else [NEXT]
    rows = [text for product in shown for text in (product.asin, product.title, product.price_tag)]
    text = _joined([*_headed(instruction), TO_SEARCH, f"Page {number} (Total results: {len(found)})",
                    *buttons, *rows])
    return Page(text, _clickables([TO_SEARCH, *buttons, *(product.asin for product in shown)]))


def item_page(instruction: str, product: Product, show_attributes: bool) -> Page:
    """A product with its options."""
    sub_pages = SUB_PAGES if show_attributes else SUB_PAGES[:-1]
    options = [text for name, values in product.options.items() for text in (name, *values)]
    text = _joined([*_headed(instruction), TO_SEARCH, BACK, *options, product.title,
                    f"Price: {product.price_tag}", f"Rating: {product.rating}", *sub_pages, BUY])
    values = [value for values in product.options.values() for value in values]
    return Page(text, _clickables([TO_SEARCH, BACK, *sub_pages, BUY], values))


def sub_page(instruction: str, product: Product, name: str) -> Page:
    """One of SUB_PAGES of a product."""
    shown = {DESCRIPTION: [product.description], FEATURES: product.features,
             REVIEWS: [text for review in product.reviews
                       for text in (f'"{review.title}"', review.score, review.body)],
             ATTRIBUTES: [*product.attributes, product.category, product.query, product.product_category]}
    text = _joined([*_headed(instruction), TO_SEARCH, BACK, *shown[name]])
    return Page(text, _clickables([TO_SEARCH, BACK]))


def done_page(reward: float) -> Page:
    """After the purchase."""
    texts = ["Thank you for shopping with us!", "Your score (min 0.0, max 1.0)", f"{reward}"]
    return Page(_joined(texts), ())


def _headed(instruction: str) -> list[str]:
    return ["Instruction:", instruction]


def _joined(texts: Iterable[str]) -> str:
    return _SEPARATOR.join(text.strip() for text in texts)


def _clickables(buttons: Iterable[str], options: Iterable[str] = ()) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*map(str.lower, buttons), *options]))
