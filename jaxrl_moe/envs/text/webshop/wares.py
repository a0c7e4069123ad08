"""What our own shop sells: kinds of things, and the words that make products of them. All is invented."""
from typing import NamedTuple

BRANDS = tuple("""
Arvelo Brenmoor Caldwin Dorvane Eskmere Fenbrook Galdray Harwold Ilvane Jarnell Kestwick Lormont Marrowby
Nettlan Ostrava Penhollow Quillon Rowanster Selbrook Tarnwell Ulverin Vandrel Wexcombe Yarrowin
""".split())
_COLORS = ("black", "white", "navy", "red", "green", "grey", "yellow", "purple")
_SIZES = ("small", "medium", "large", "x-large")


class Ware(NamedTuple):
    """A kind of thing.

    Attributes:
      name: as titles have it, such as "desk lamp".
      query: the kind, as a buyer would search for it.
      attributes: of which each product has some.
      uses: what it is for, of which a title names one.
      options: {name: values}, of which each product offers some.
      price: a usual one, in dollars.
    """
    name: str
    query: str
    attributes: tuple[str, ...]
    uses: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    price: int


class Department(NamedTuple):
    """Wares on a common path of categories."""
    category: str
    path: tuple[str, str]
    wares: tuple[Ware, ...]


def _wares(attributes: str, uses: str, options: dict[str, tuple[str, ...]], listed: str) -> tuple[Ware, ...]:
    """Wares of the same attributes, uses and options; `listed` has "name/query/price" for each."""
    rows = [row.strip().split("/") for row in listed.split(",")]
    shared = tuple(map(str.strip, attributes.split(","))), tuple(map(str.strip, uses.split(",")))
    return tuple(Ware(name, query, *shared, options, int(price)) for name, query, price in rows)


DEPARTMENTS = (
    Department("clothing", ("Clothing, Shoes & Jewelry", "Clothing"), _wares(
        "machine washable, slim fit, long sleeve, quick drying, stretch fabric, hidden pockets, loose fit, "
        "tumble dry", "daily wear, office, hiking, travel", {"color": _COLORS, "size": _SIZES},
        "shirt/shirts/28, jacket/jackets/60, sweater/sweaters/40, dress/dresses/45, pants/pants/35, "
        "hoodie/hoodies/38")),
    Department("shoes", ("Clothing, Shoes & Jewelry", "Footwear"), _wares(
        "rubber sole, memory foam, arch support, steel toe, non slip, water resistant, slip on, wide width",
        "running, walking, work, winter", {"color": _COLORS, "size": ("7", "8", "9", "10", "11", "12")},
        "sneakers/sneakers/65, boots/boots/90, sandals/sandals/30, slippers/slippers/22")),
    Department("home", ("Home & Kitchen", "Furniture & Decor"), _wares(
        "easy assembly, space saving, solid wood, easy clean, heavy duty, fade resistant, non toxic, "
        "eco friendly", "living room, bedroom, dining room, home office",
        {"color": _COLORS, "size": ("twin", "full", "queen", "king")},
        "rug/area rugs/80, curtain/curtains/35, blanket/blankets/32, pillow/pillows/25, "
        "bookshelf/bookshelves/110, desk lamp/desk lamps/30")),
    Department("electronics", ("Electronics", "Accessories"), _wares(
        "fast charging, wireless bluetooth, noise cancelling, high speed, long lasting, gold plated, "
        "hands free, dust proof", "phone, tablet, laptop, car",
        {"color": _COLORS, "style": ("single", "2 pack", "3 pack")},
        "charger/chargers/20, headphones/headphones/55, speaker/speakers/48, cable/cables/12, "
        "keyboard/keyboards/42, tripod/tripods/34")),
    Department("beauty", ("Beauty & Personal Care", "Care"), _wares(
        "cruelty free, paraben free, fragrance free, tea tree, hyaluronic acid, natural ingredients, "
        "sulfate free, alcohol free", "dry skin, sensitive skin, damaged hair, daily use",
        {"scent": ("lavender", "rose", "citrus", "mint", "vanilla"),
         "size": ("4 ounce", "8 ounce", "12 ounce")},
        "shampoo/shampoos/16, face cream/face creams/24, body lotion/body lotions/18, serum/serums/27, "
        "soap/soaps/9")),
    Department("grocery", ("Grocery & Gourmet Food", "Pantry"), _wares(
        "gluten free, low sodium, sugar free, non gmo, certified organic, plant based, low carb, nut free",
        "breakfast, lunch boxes, baking, parties",
        {"flavor": ("original", "honey", "cinnamon", "cocoa", "lemon"),
         "size": ("pack of 1", "pack of 6", "pack of 12")},
        "granola/granolas/14, crackers/crackers/10, tea/teas/13, pasta/pastas/11, cookies/cookies/12, "
        "popcorn/popcorns/8")))
