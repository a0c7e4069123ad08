"""A buyer who knows every page, and takes the first product among the results that is worth 1.

What it searches for stands in the instruction. What a results page does not show, such as the options that a
product has, it knows before it looks.
"""
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from jaxrl_moe.envs.text.webshop import pages
from jaxrl_moe.envs.text.webshop.catalogue import Shop
from jaxrl_moe.envs.text.webshop.nouns import NounsOf
from jaxrl_moe.envs.text.webshop.products import Product, ShoppingGoal
from jaxrl_moe.envs.text.webshop.reward import Purchase, is_chosen, worth

MOST_TURNS = 10


class ShoppingMove(NamedTuple):
    """A command and why it is given."""
    command: str
    thought: str


def shopping_moves(shop: Shop, goal: ShoppingGoal, nouns_of: NounsOf) -> list[ShoppingMove]:
    """How to buy what a goal asks for, in MOST_TURNS turns; empty where no such product is found so soon."""
    wanted = ", ".join(goal.attributes)
    query = " ".join([*goal.attributes, goal.product.query])
    for rank, product in enumerate(shop.index.search(query)):
        if product.price > goal.price_upper:
            continue
        chosen = _choice(product, goal)
        if worth(Purchase(product, tuple(chosen)), goal, nouns_of).reward == 1:
            moves = [ShoppingMove(f"search[{query}]", f"I look for {goal.product.query} that are {wanted}."),
                     *_to_item(product, rank), *_looks(product, goal), *_purchase(chosen)]
            return moves if len(moves) <= MOST_TURNS else []
    return []


def _choice(product: Product, goal: ShoppingGoal) -> list[str]:
    """A value of each option of a product that a goal asks for, of those that the product has."""
    names: dict[str, str] = {}
    for wanted in goal.options:
        offered = ((name, value) for name, values in product.options.items() for value in values)
        fitting = [(name, value) for name, value in offered
                   if name not in names and is_chosen(wanted, [value])]
        exact = [each for each in fitting if each[1] == wanted.value]
        names |= dict([*exact, *fitting][:1])
    return list(names.values())


def _to_item(product: Product, rank: int) -> Iterator[ShoppingMove]:
    next_page = ShoppingMove(_click(pages.NEXT), "None of these is what I need: I look at the next page.")
    yield from itertools.repeat(next_page, rank // pages.A_PAGE)
    yield ShoppingMove(_click(product.asin), f"{product.asin} may be what I need, for {product.price_tag}.")


def _looks(product: Product, goal: ShoppingGoal) -> Iterator[ShoppingMove]:
    """A look at the features, where the name leaves an attribute open."""
    unnamed = [wanted for wanted in goal.attributes if wanted not in product.title.lower()]
    if unnamed:
        yield ShoppingMove(_click(pages.FEATURES),
                   f"The name does not say {', '.join(unnamed)}: I look at the features.")
        yield ShoppingMove(_click(pages.BACK), "They say so: I go back to choose.")


def _purchase(chosen: list[str]) -> Iterator[ShoppingMove]:
    for value in chosen:
        yield ShoppingMove(_click(value), f"The instruction asks for {value}.")
    yield ShoppingMove(_click(pages.BUY), "All that was asked for is chosen: I buy it.")


def _click(thing: str) -> str:
    return f"click[{thing.lower()}]"
