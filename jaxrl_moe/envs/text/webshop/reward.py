"""What a purchase is worth: the rule of WebShop (Yao et al., arXiv 2207.01206; its engine/goal.py).

reward = r_type * (attributes + options + price) / (wanted attributes + wanted options + 1), where each of the
three in brackets counts what was met, and r_type is how near the kind of thing is that was bought.
"""
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxrl_moe.envs.text.webshop.fuzzy import is_alike
from jaxrl_moe.envs.text.webshop.nouns import NounsOf
from jaxrl_moe.envs.text.webshop.products import Product, ShoppingGoal, WantedOption

# In the order in which WebShop looks for them: the first that a value holds stands for all of it.
COLORS = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel
camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry
cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green
grey heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot
midnight mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple
rainbow red rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan
taupe teal tiger turquoise violet walnut wheat white wine yellow
""".split()
_COLOR_NAMES = frozenset(COLORS)


class Purchase(NamedTuple):
    """What was bought, and the value taken of each option that one was taken of."""
    product: Product
    options: tuple[str, ...]


class Worth(NamedTuple):
    """A reward and what it is made of.

    Attributes:
      reward: from 0 to 1.
      kind: r_type, from 0 to 1.
      attributes, options: the share of those wanted that was met; 1 where none was wanted.
      price: 1 where it costs no more than it may, else 0.
    """
    reward: float
    kind: float
    attributes: float
    options: float
    price: float


def worth(purchase: Purchase, goal: ShoppingGoal, nouns_of: NounsOf) -> Worth:
    """What a purchase is worth to a goal."""
    product = purchase.product
    kind = kind_reward(product, goal.product, nouns_of)
    attributes = _count(lambda wanted: _has(product, wanted), goal.attributes)
    options = _count(lambda wanted: is_chosen(wanted, purchase.options), goal.options)
    price = float(product.price <= goal.price_upper)
    wanted = len(goal.attributes) + len(goal.options) + 1
    return Worth((attributes + options + price) / wanted * kind, kind, _share(attributes, goal.attributes),
                 _share(options, goal.options), price)


def kind_reward(bought: Product, wanted: Product, nouns_of: NounsOf) -> float:
    """r_type: 1 where the query is the same, two categories are, or more than a fifth of the wanted title's
    nouns; else 0.5. Whatever these say, 0.1 where less than a tenth of the nouns are, and 0 where none is."""
    nouns = nouns_of(wanted.title)
    common = len(set(nouns) & set(nouns_of(bought.title)))
    share = common / len(nouns) if nouns else 0.2
    if share == 0:
        return 0.0
    if share < 0.1:
        return 0.1
    same_path = len(_path(bought) & _path(wanted)) >= 2
    return 1.0 if bought.query == wanted.query or same_path or share > 0.2 else 0.5


def _path(product: Product) -> set[str]:
    return {name.strip() for name in product.product_category.split("›")}


def _has(product: Product, wanted: str) -> bool:
    """Whether a product has an attribute, among its own or in what is written of it."""
    written = (product.title, " ".join(product.features), product.description)
    return any(is_alike(own, wanted) for own in product.attributes) or any(
        wanted in text.lower() for text in written)


def is_chosen(wanted: WantedOption, chosen: Iterable[str]) -> bool:
    """Whether a wanted option was taken. Where it has a name WebShop compares name and value together, of
    which only one that is a colour's name is one."""
    if wanted.name:
        names = _COLOR_NAMES & {wanted.name, wanted.value}
        text = min(names) if names else f"{wanted.name} {wanted.value}"
    else:
        text = color_of(wanted.value)
    return any(is_alike(color_of(value), text) for value in chosen)


def color_of(value: str) -> str:
    """The first colour that a value holds, if any, else the value."""
    return next((color for color in COLORS if color in value), value)


def _count(is_met: Callable[[Any], bool], wanted: Iterable[Any]) -> int:
    return sum(map(is_met, wanted))


def _share(count: int, wanted: tuple) -> float:
    return count / len(wanted) if wanted else 1.0
