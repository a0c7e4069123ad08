"""Our own shop: products and goals that follow from a seed, and that no shop has ever had."""
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from jaxrl_moe.envs.text.webshop.index import ProductIndex
from jaxrl_moe.envs.text.webshop.products import Product, Review, ShoppingGoal, WantedOption
from jaxrl_moe.envs.text.webshop.wares import BRANDS, DEPARTMENTS, Department, Ware

OUR_PRODUCTS = 2000  # unless a task says otherwise
IN_TITLE = 3         # attributes that a title names; one more stands with the features alone
GOALS_A_PRODUCT = 2
ID_PREFIX = "OURS"   # no id of Amazon's begins so
HELD_OUT_SHARE = 5   # one product in so many is held out, with its goals
PRICE_LIMITS = tuple(10.0 * step for step in range(1, 100))
_OPENINGS = ("i am looking for", "i need", "i want to buy", "find me", "please show me")
_Value = TypeVar("_Value")


class Shop(NamedTuple):
    """Products, goals by number, and the search."""
    products: Sequence[Product]
    goals: Sequence[ShoppingGoal]
    index: ProductIndex


@functools.lru_cache(4)
def our_shop(seed: int, count: int) -> Shop:
    """The shop of a seed with so many products, made once a process."""
    products = tuple(_product(seed, number) for number in range(count))
    goals = tuple(_goal(seed, product, number) for product in products for number in range(GOALS_A_PRODUCT))
    return Shop(products, goals, ProductIndex(products))


def shop_name(seed: int, count: int) -> str:
    """What rows call the shop of our_shop."""
    return f"ours(products={count}, seed={seed})"


def is_held_out(product: Product) -> bool:
    """Whether the goals of a product belong to the held-out ones."""
    return drawn_number(f"held out {product.asin}") % HELD_OUT_SHARE == 0


def _product(seed: int, number: int) -> Product:
    key = f"{seed} {number}"
    department = _one(DEPARTMENTS, f"{key} department")
    ware = _one(department.wares, f"{key} ware")
    attributes = _some(ware.attributes, IN_TITLE + 1, f"{key} attributes")
    dollars = ware.price * (60 + drawn_number(f"{key} price") % 90) / 100 + 0.99
    price = float(f"{dollars:.2f}")
    return Product(
        f"{ID_PREFIX}{number:06d}", _title(key, ware, attributes), price, f"${price}", ware.query,
        department.category, " › ".join([*department.path, ware.query.title()]), attributes,
        _features(key, ware, attributes), _description(department, ware),
        {name: _some(values, 3, f"{key} {name}") for name, values in ware.options.items()},
        _reviews(key, ware), "N.A.")


def _title(key: str, ware: Ware, attributes: Sequence[str]) -> str:
    named = " ".join(attributes[:IN_TITLE])
    return f"{_one(BRANDS, f'{key} brand')} {named} {ware.name} for {_one(ware.uses, f'{key} use')}".title()


def _features(key: str, ware: Ware, attributes: Sequence[str]) -> tuple[str, ...]:
    lines = [f"This {ware.name} is made with care: {attribute}." for attribute in attributes]
    return tuple(sorted(lines, key=lambda line: drawn_number(f"{key} {line}")))


def _description(department: Department, ware: Ware) -> str:
    return f"One of the {ware.query} of our {department.category} department, in a shop that was made up."


def _reviews(key: str, ware: Ware) -> tuple[Review, ...]:
    count = drawn_number(f"{key} reviews") % 3
    stars = [1 + drawn_number(f"{key} stars {place}") % 5 for place in range(count)]
    return tuple(Review(f"{each} stars for this {ware.name}", f"{each}.0", "It came on time.")
                 for each in stars)


def _goal(seed: int, product: Product, number: int) -> ShoppingGoal:
    """Two of a product's attributes, one value of each of its options, and a price that it keeps."""
    key = f"{seed} {product.asin} goal {number}"
    attributes = _some(product.attributes, 2, f"{key} attributes")
    options = tuple(WantedOption(name, _one(values, f"{key} {name}"))
                    for name, values in sorted(product.options.items()))
    limits = [price for price in PRICE_LIMITS if price > product.price][:4]
    limit = _one(limits, f"{key} limit")
    return ShoppingGoal(_instruction(key, product, attributes, options, limit), product, attributes, options,
                        limit)


def _instruction(key: str, product: Product, attributes: Sequence[str], options: Iterable[WantedOption],
                 limit: float) -> str:
    wanted = ", and ".join(f"{option.name}: {option.value}" for option in options)
    return (f"{_one(_OPENINGS, f'{key} opening')} {', '.join(attributes)} {product.query} with {wanted}, "
            f"and price lower than {limit:.2f} dollars")


def _one(values: Sequence[_Value], words: str) -> _Value:
    return values[drawn_number(words) % len(values)]


def _some(values: Sequence[str], count: int, words: str) -> tuple[str, ...]:
    """So many of some values, in their own order."""
    drawn = sorted(values, key=lambda value: drawn_number(f"{words} {value}"))[:count]
    return tuple(value for value in values if value in drawn)


def drawn_number(words: str) -> int:
    """A number that follows from words, whatever the version of Python."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big")
