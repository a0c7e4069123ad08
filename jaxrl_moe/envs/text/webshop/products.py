"""What a shop holds: products, and goals, which say what is to be bought."""
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Review(NamedTuple):
    """What a buyer wrote; `score` is of five stars."""
    title: str
    score: str
    body: str


@dataclasses.dataclass(frozen=True)
class Product:
    """What is sold.

    Attributes:
      asin: its id, in capitals.
      title: its name.
      price: in dollars, that it is sold for.
      price_tag: as pages show it, such as "$12.5" or "$10.0 to $20.0".
      query: the kind of thing that it is, such as "desk lamps".
      category: of a few, such as "home".
      product_category: a path, such as "Home › Lighting › Desk Lamps".
      attributes: what goals may ask for, such as "easy clean".
      features, description, reviews, rating: as its pages show them.
      options: {name: values}, of each of which a buyer takes one, or none.
    """
    asin: str
    title: str
    price: float
    price_tag: str
    query: str
    category: str
    product_category: str
    attributes: tuple[str, ...]
    features: tuple[str, ...]
    description: str
    options: Mapping[str, tuple[str, ...]]
    reviews: tuple[Review, ...] = ()
    rating: str = "N.A."


class WantedOption(NamedTuple):
    """An option of a goal; without a name where people wrote the goal, who name values alone."""
    name: str
    value: str


class ShoppingGoal(NamedTuple):
    """What is to be bought.

    Attributes:
      instruction: what a policy is told.
      product: that the goal was made of; others may do as well.
      attributes, options: that are wanted.
      price_upper: the most that it may cost, in dollars.
    """
    instruction: str
    product: Product
    attributes: tuple[str, ...]
    options: tuple[WantedOption, ...]
    price_upper: float
