"""WebShop's own files: their products, and the goals that it makes of them, with the same numbers.

Its server of AgentGym reads the first thousand products and their synthetic goals. How a goal's price limit
is drawn, and the order of the goals, follow Python's generator of seed 233 there; so they do here. The price
of a product with two prices is drawn anew by each of its processes; here it follows from the product's id.
"""
import functools
import itertools
import pathlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from jaxrl_moe.envs.text.webshop.catalogue import PRICE_LIMITS, Shop, drawn_number
from jaxrl_moe.envs.text.webshop.index import ProductIndex
from jaxrl_moe.envs.text.webshop.products import Product, ShoppingGoal, WantedOption
from jaxrl_moe.outside import Fields, OutsideError, as_object, kind, read_json
from jaxrl_moe.types import UserError

Goals = Literal["synthetic", "human"]
PRODUCTS = ("items_shuffle_1000.json", "items_shuffle.json")
ATTRIBUTES = ("items_ins_v2_1000.json", "items_ins_v2.json")
HUMAN = ("items_human_ins.json",)
UNPRICED = 100.0
NO_LIMIT = 1_000_000.0
_GOAL_SEED = 233
_LONGEST_ASIN = 10


@functools.lru_cache(2)
def shop_of(folder: str, goals: Goals, count: int) -> Shop:
    """The shop of the files of a folder, read once a process: items_shuffle, items_ins_v2, and for goals that
    people wrote items_human_ins; of the first two those of 1,000 products where they are there.

    Args:
      folder: that holds them.
      goals: whose.
      count: products are the first so many.

    Raises:
      UserError: a file is absent, or holds what it may not.
    """
    attributes = as_object(_read(folder, ATTRIBUTES), f"{ATTRIBUTES[-1]} of {folder}")
    products = list(_products(_read(folder, PRODUCTS), attributes, folder, count))
    made = _human(products, _read(folder, HUMAN)) if goals == "human" else _synthetic(products, attributes)
    ordered = list(made)
    random.Random(_GOAL_SEED).shuffle(ordered)
    if not ordered:
        raise UserError(f"The files of {folder} make no goal of these {len(products)} products: take more of "
                        "them, or other goals.")
    return Shop(products, ordered, ProductIndex(products))


def _read(folder: str, names: Sequence[str]) -> Any:
    paths = [pathlib.Path(folder) / name for name in names]
    there = [path for path in paths if path.is_file()]
    if not there:
        raise UserError(f"{folder} has no {' or '.join(names)}: fetch WebShop's files, see "
                        "docs/agents/webshop.md, or leave data out for the shop of our own.")
    return read_json(there[0], non_finite=True)


def _products(rows: Any, attributes: Mapping[str, Any], folder: str, count: int) -> Iterator[Product]:
    """The products of the first rows; those without an id, or with one that came before, are none."""
    if not isinstance(rows, list):
        raise OutsideError(f"The products of {folder} are {kind(rows)}; a list is needed.")
    seen = {"nan"}
    for number, row in enumerate(rows[:count]):
        product = _product(Fields(row, f"Product {number} of {folder}"), attributes)
        if product.asin not in seen and len(product.asin) <= _LONGEST_ASIN:
            seen.add(product.asin)
            yield product


def _product(row: Fields, attributes: Mapping[str, Any]) -> Product:
    asin = row.string("asin")
    prices = _prices(row)
    tag = " to ".join(f"${price}" for price in prices)
    spread = prices[-1] - prices[0]
    about = Fields(attributes.get(asin) or {}, f"The attributes of product {asin}")
    features = row.values.get("small_description") or []
    if isinstance(features, str):
        features = [features]
    return Product(
        asin, row.string("name"), prices[0] + spread * (drawn_number(f"price {asin}") % 1000) / 1000, tag,
        row.string("query", "").lower().strip(), row.string("category", ""),
        row.string("product_category", ""), tuple(about.strings("attributes", ["DUMMY_ATTR"])),
        tuple(map(str, features)), row.string("full_description", ""), _options(row))


def _prices(row: Fields) -> list[float]:
    """One price, or the least and the most."""
    texts = row.string("pricing", "").split("$")[1:3]
    digits = [re.sub(r"[^\d.]", "", text) for text in texts]
    try:
        return [float(text) for text in digits] or [UNPRICED]
    except ValueError as error:
        raise OutsideError(f"{row.where}: pricing is {row.values['pricing']!r}; a price such as $12.50 is "
                           "needed.") from error


def _options(row: Fields) -> dict[str, tuple[str, ...]]:
    options = {}
    for name, contents in (row.object("customization_options", None) or Fields({}, "")).values.items():
        if contents is None:
            continue
        if not isinstance(contents, list):
            raise OutsideError(f"{row.where}: the option {name!r} is {kind(contents)}; a list is needed.")
        values = (Fields(each, f"{row.where}: the option {name!r}").string("value") for each in contents)
        options[name.lower()] = tuple(value.strip().replace("/", " | ").lower() for value in values)
    return options


def _synthetic(products: Sequence[Product], attributes: Mapping[str, Any]) -> Iterator[ShoppingGoal]:
    """Of each product with an instruction, one goal for each choice of its options."""
    draws = random.Random(_GOAL_SEED)
    for product in products:
        about = Fields(attributes.get(product.asin) or {}, f"The attributes of product {product.asin}")
        instruction = about.string("instruction", None)
        if instruction is None:
            continue
        wanted = _wanted(about)
        limit, told = _limit(product, draws)
        names = sorted(product.options)
        for values in itertools.product(*(product.options[name] for name in names)):
            options = tuple(map(WantedOption, names, values))
            chosen = ", and ".join(f"{name}: {value}" for name, value in options)
            yield ShoppingGoal(instruction + f" with {chosen}" * bool(chosen) + told, product, wanted,
                               options, limit)


def _human(products: Sequence[Product], written: Any) -> Iterator[ShoppingGoal]:
    """What people wrote of each product; what names no attribute is left out."""
    draws = random.Random(_GOAL_SEED)
    by_product = as_object(written, HUMAN[0])
    for product in products:
        for row in by_product.get(product.asin) or []:
            fields = Fields(row, f"An instruction of product {product.asin}")
            if fields.strings("instruction_attributes"):
                limit, told = _limit(product, draws)
                options = tuple(WantedOption("", value) for value in fields.strings("instruction_options"))
                yield ShoppingGoal(fields.string("instruction").strip(".") + told, product, _wanted(fields),
                                   options, limit)


def _wanted(fields: Fields) -> tuple[str, ...]:
    """The attributes that a goal asks for."""
    if wanted := tuple(fields.strings("instruction_attributes")):
        return wanted
    raise OutsideError(f"{fields.where}: instruction_attributes is empty; an attribute is needed.")


def _limit(product: Product, draws: random.Random) -> tuple[float, str]:
    """The most that it may cost, and how that is told: the greater of two of the next four round prices."""
    limits = [price for price in PRICE_LIMITS if price > product.price][:4]
    if len(limits) < 2:
        return NO_LIMIT, ""
    limit = max(draws.sample(limits, 2))
    return limit, f", and price lower than {limit:.2f} dollars"
