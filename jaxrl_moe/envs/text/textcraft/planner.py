"""An oracle: which commands make a goal, in as few turns as it can see.

Everything that must be found is found first, each item in one command; then what is crafted from it is
crafted. Where several recipes or items would do, that is taken which adds the fewest commands to those there
already. Choices are made one after the other, so a plan can be longer than the best.
"""
import dataclasses
from typing import NamedTuple, Self

from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, RecipeBook


class Goal(NamedTuple):
    """To hold so many of an item, of which none is there at first.

    Attributes:
      stock: (item, count) of what is carried at first, sorted.
    """
    item: str
    count: int = 1
    stock: tuple[tuple[str, int], ...] = ()


class Craft(NamedTuple):
    """One use of a recipe, with the items that are taken for its ingredients."""
    recipe: CraftingRecipe
    items: tuple[str, ...]

    @property
    def used(self) -> list[tuple[str, int]]:
        """(item, count) of what it takes."""
        return [(item, part.count) for item, part in zip(self.items, self.recipe.ingredients)]

    @property
    def command(self) -> str:
        used = ", ".join(f"{count} {item}" for item, count in self.used)
        return f"craft {self.recipe.made} {self.recipe.product} using {used}"


@dataclasses.dataclass
class CraftingPlan:
    """What is to be done.

    Attributes:
      pool: of each item how many are there, and meant for nothing.
      found: {item: how many are to be found}.
      crafts: in order, after the finds.
    """
    pool: dict[str, int]
    found: dict[str, int] = dataclasses.field(default_factory=dict)
    crafts: list[Craft] = dataclasses.field(default_factory=list)

    @property
    def turns(self) -> int:
        """How many commands it takes."""
        return len(self.found) + len(self.crafts)

    @property
    def commands(self) -> list[str]:
        return [*(f"get {count} {item}" for item, count in self.found.items()),
                *(craft.command for craft in self.crafts)]

    def copy(self) -> Self:
        return type(self)(self.pool.copy(), self.found.copy(), self.crafts.copy())


def plan(book: RecipeBook, goal: Goal) -> CraftingPlan:
    """Returns how to make a goal from its stock."""
    return _supplied(book, CraftingPlan(dict(goal.stock)), goal.item, goal.count)


def _supplied(book: RecipeBook, before: CraftingPlan, item: str, count: int) -> CraftingPlan:
    """A plan with so many more of an item, which are meant for something."""
    after = before.copy()
    there = min(after.pool.get(item, 0), count)
    missing = count - there
    if there:
        after.pool[item] -= there
    if missing and item in book.recipes:
        tried = ((recipe, order) for recipe in book.recipes[item] for order in _orders(recipe))
        ways = [_crafted(book, after, recipe, missing, order) for recipe, order in tried]
        return min(ways, key=lambda way: way.turns)
    if missing:
        after.found[item] = after.found.get(item, 0) + missing
    return after


def _orders(recipe: CraftingRecipe) -> tuple[int, ...]:
    return (1, -1) if len(recipe.ingredients) > 1 else (1,)


def _crafted(book: RecipeBook, before: CraftingPlan, recipe: CraftingRecipe, missing: int,
             order: int) -> CraftingPlan:
    """A plan by which a recipe makes what is missing; what it makes beyond stays in the pool. Its ingredients
    are seen to from the first (order 1) or from the last (-1): what is left of some is there for others."""
    times = -(-missing // recipe.made)
    after = before.copy()
    items = []
    for part in recipe.ingredients[::order]:
        ways = {item: _supplied(book, after, item, part.count * times) for item in book.choices(part)}
        chosen = min(ways, key=lambda item: ways[item].turns)
        after = ways[chosen]
        items.append(chosen)
    after.crafts += [Craft(recipe, tuple(items[::order]))] * times
    after.pool[recipe.product] = after.pool.get(recipe.product, 0) + recipe.made * times - missing
    return after
