"""Recipes of our own: a workshop of fifty-odd things, for tests and for policies that learn in minutes."""
from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, Ingredient, RecipeBook

KINDS = {"oak plank": "plank", "pine plank": "plank", "red dye": "dye", "blue dye": "dye"}
RECIPES = """
2 oak plank: 1 oak log
2 pine plank: 1 pine log
1 red dye: 2 berry
1 blue dye: 1 flower
1 brick: 2 clay
2 thread: 1 flax
1 glass: 3 sand
1 flour: 2 wheat
1 ingot: 2 ore
2 paper: 3 reed
1 leather: 1 hide, 1 salt
1 wax: 2 comb
1 mortar: 1 sand, 1 lime
1 butter: 2 milk
1 soup: 1 carrot, 2 water
1 rope: 2 vine
2 stick: 1 plank
1 board: 2 plank
4 nail: 1 ingot
1 blade: 2 ingot
1 cloth: 3 thread
1 rope: 4 thread
1 candle: 1 wax, 1 thread
1 bottle: 2 glass
1 dough: 2 flour, 1 egg
1 book: 3 paper, 1 leather
1 letter: 1 paper, 1 dye
1 banner: 1 paper, 2 dye
1 wall: 3 brick, 1 mortar
1 pot: 2 brick, 1 water
1 strap: 1 leather, 1 rope
1 mirror: 1 glass, 1 ingot
1 torch: 1 stick, 1 resin
2 arrow: 1 stick, 1 feather
1 ladder: 3 stick
1 bow: 2 stick, 1 rope
1 knife: 1 blade, 1 stick
1 hammer: 2 ingot, 1 stick
1 kite: 1 stick, 1 paper, 1 thread
1 bread: 1 dough, 1 salt
1 pie: 1 dough, 2 apple
1 flag: 1 cloth, 1 dye
1 sack: 2 cloth
1 lantern: 1 candle, 1 bottle
1 box: 2 board
1 shelf: 1 board, 2 nail
1 roast: 1 meat, 1 pot
1 chest: 1 box, 2 nail
1 sled: 1 box, 1 rope
1 window: 1 ladder, 1 glass
1 toast: 1 bread, 1 butter
1 quiver: 1 strap, 2 arrow
1 tent: 1 sack, 1 stick
"""


def small_book() -> RecipeBook:
    """The recipes above."""
    return RecipeBook(map(_recipe, RECIPES.strip().splitlines()), KINDS)


def _recipe(line: str) -> CraftingRecipe:
    product, _, parts = line.partition(": ")
    made, _, name = product.partition(" ")
    return CraftingRecipe(name, int(made), tuple(map(_ingredient, parts.split(", "))))


def _ingredient(part: str) -> Ingredient:
    count, _, name = part.partition(" ")
    return Ingredient(name, int(count), name in KINDS.values())
