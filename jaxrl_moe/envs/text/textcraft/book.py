"""Recipes, and what follows from them: what can be found, what stands for what, how deep an item lies.

Names are as commands spell them: lower case, with spaces.
"""
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Ingredient(NamedTuple):
    """So many of an item, or, where `is_kind`, of any item of a kind; all of the same item."""
    name: str
    count: int
    is_kind: bool = False


class CraftingRecipe(NamedTuple):
    """Makes `made` of the product."""
    product: str
    made: int
    ingredients: tuple[Ingredient, ...]

    @property
    def command(self) -> str:
        """The command that crafts by it, with kinds in place of items where any will do."""
        used = ", ".join(f"{each.count} {each.name}" for each in self.ingredients)
        return f"craft {self.made} {self.product} using {used}"


class RecipeBook:
    """Recipes without circles: one that needs its own product, by way of recipes before it, is left out. One
    that comes twice counts once.

    Args:
      recipes: in the order in which they are taken up.
      kinds: {item: kind that it is of}. A kind of no item is an item itself, which can be found.
      namespace: what stands before names in ids, such as "minecraft:".
      others: items beside those of the recipes.

    Attributes:
      members: {kind: its items in alphabetical order}.
      items: the names of all items.
      recipes: {item that is crafted: its recipes}.
    """

    def __init__(self, recipes: Iterable[CraftingRecipe], kinds: Mapping[str, str], namespace: str = "",
                 others: Iterable[str] = ()):
        recipes = list(dict.fromkeys(recipes))
        used = {part.name for recipe in recipes for part in recipe.ingredients if part.is_kind}
        self.namespace = namespace
        self.members = {kind: tuple(sorted(item for item in kinds if kinds[item] == kind))
                        for kind in sorted(used & set(kinds.values()))}
        self.recipes: dict[str, tuple[CraftingRecipe, ...]] = {}
        self._needs: dict[str, set[str]] = {kind: set(items) for kind, items in self.members.items()}
        for recipe in map(self._settled, recipes):
            if not any(self._leads_to(part.name, recipe.product) for part in recipe.ingredients):
                self.recipes[recipe.product] = (*self.recipes.get(recipe.product, ()), recipe)
                self._needs.setdefault(recipe.product, set()).update(_names(recipe))
        named = {name for recipe in recipes for name in (recipe.product, *_names(recipe))}
        self.items = frozenset(named.union(kinds, others)) - self.members.keys()
        self.depth = functools.cache(self._depth)

    def id_of(self, item: str) -> str:
        """The id of an item, such as minecraft:oak_planks; its name where there is no namespace."""
        return self.namespace + item.replace(" ", "_") if self.namespace else item

    def name_of(self, item: str) -> str:
        """The name of an item that is given by its name or its id."""
        return item.strip().lower().removeprefix(self.namespace).replace("_", " ")

    def choices(self, ingredient: Ingredient) -> tuple[str, ...]:
        """The items that will do for an ingredient."""
        return self.members[ingredient.name] if ingredient.is_kind else (ingredient.name,)

    def crafted(self) -> list[str]:
        """All items that can be crafted, those of the least depth first, and each depth in alphabetical
        order."""
        return sorted(self.recipes, key=lambda item: (self.depth(item), item))

    def path(self, item: str) -> list[CraftingRecipe]:
        """Every recipe that can be of use in crafting an item, sorted by its command."""
        met = {item}
        ahead = [item]
        while ahead:
            new = self._needs.get(ahead.pop(), set()) - met
            met |= new
            ahead += new
        return _sorted(recipe for name in met for recipe in self.recipes.get(name, ()))

    def siblings(self, recipes: Iterable[CraftingRecipe]) -> list[CraftingRecipe]:
        """The other recipes that use an ingredient of some recipes, sorted by their command."""
        recipes = set(recipes)
        used = {name for recipe in recipes for name in _names(recipe)}
        every = (recipe for rows in self.recipes.values() for recipe in rows)
        return _sorted(recipe for recipe in every if recipe not in recipes and used & set(_names(recipe)))

    def _settled(self, recipe: CraftingRecipe) -> CraftingRecipe:
        parts = (part._replace(is_kind=part.is_kind and part.name in self.members)
                 for part in recipe.ingredients)
        return recipe._replace(ingredients=tuple(parts))

    def _leads_to(self, name: str, product: str) -> bool:
        """Whether making `name` can need the product."""
        return name == product or any(self._leads_to(need, product) for need in self._needs.get(name, ()))

    def _depth(self, name: str) -> int:
        """Crafts one after the other that an item or kind takes at least, 0 where it can be found."""
        if name in self.members:
            return min(map(self.depth, self.members[name]))
        ways = (max(map(self.depth, _names(recipe))) + 1 for recipe in self.recipes.get(name, ()))
        return min(ways, default=0)


def _names(recipe: CraftingRecipe) -> Iterator[str]:
    return (part.name for part in recipe.ingredients)


def _sorted(recipes: Iterable[CraftingRecipe]) -> list[CraftingRecipe]:
    return sorted(recipes, key=lambda recipe: recipe.command)
