"""Data on our own shop: prompts for RL, and visits as the oracle makes them for SFT."""
import random
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.envs.text.webshop.catalogue import OUR_PRODUCTS, Shop, is_held_out, our_shop, shop_name
from jaxrl_moe.envs.text.webshop.instructions import answer, instructions, shopping_command
from jaxrl_moe.envs.text.webshop.nouns import listed_nouns, nouns_by
from jaxrl_moe.envs.text.webshop.oracle import ShoppingMove, shopping_moves
from jaxrl_moe.envs.text.webshop.task import WebShop
from jaxrl_moe.envs.text.webshop.visit import Visit
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import UserError


def prompts(count: int, seed: int, split: str, terse: bool, products: int = OUR_PRODUCTS,
            shop_seed: int = 0) -> list[dict[str, Any]]:
    """Rows of RL: the instructions as a system message, and the number of a goal; the episode shows what is
    to be bought.

    Args:
      count: of rows at most; no goal comes twice.
      seed: decides which goals, and their order.
      split: "train" or "test"; they share no goal, and no product that one was made of.
      terse: whether answers are the command alone, without a thought.
      products, shop_seed: `products` and `seed` of the task.
    """
    shop = our_shop(shop_seed, products)
    return [{"prompt": _instructed(terse), "id": number, "shop": shop_name(shop_seed, products)}
            for number in _shuffled(shop, seed, split)[:count]]


def conversations(count: int, seed: int, split: str, terse: bool, products: int = OUR_PRODUCTS,
                  shop_seed: int = 0) -> list[dict[str, Any]]:
    """Rows of SFT: visits of the oracle, in `messages`, to goals that it meets; where `count` is more than
    these, they come again."""
    shop = our_shop(shop_seed, products)
    rows = [{"messages": messages, "id": number, "shop": shop_name(shop_seed, products)}
            for number, messages in _visits(shop, _shuffled(shop, seed, split), terse, count)]
    if not rows:
        raise UserError(f"The oracle meets no goal of {split!r} in a shop of {products} products: make more.")
    return [rows[number % len(rows)] for number in range(count)]


def episodes(task: WebShop, seed: int, split: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of all goals of a split that a task has, in an order of the seed."""
    shop = {} if task.data else {"shop": shop_name(task.seed, task.products)}
    for number in _shuffled(task.shop(), seed, split):
        yield {"id": number, **shop}


def commands(task: WebShop, env: Env, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (command, thought) of each turn of the oracle's visit, spelt as the task's answers are; none for
    a goal that it does not meet."""
    for move in shopping_moves(task.shop(), task.goal(row), nouns_by(task.nouns)):
        spelt = move.command if task.answers == "react" else shopping_command(move.command)
        yield spelt, move.thought


def _visits(shop: Shop, numbers: list[int], terse: bool,
            count: int) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """(goal, messages) of the first `count` goals that the oracle meets."""
    for number in numbers:
        if count and (moves := shopping_moves(shop, shop.goals[number], listed_nouns)):
            count -= 1
            yield number, _messages(shop, number, moves, terse)


def _messages(shop: Shop, number: int, moves: list[ShoppingMove], terse: bool) -> list[dict[str, str]]:
    visit = Visit(shop, shop.goals[number], listed_nouns)
    messages = _instructed(terse)
    for move in moves:
        messages += [{"role": "user", "content": visit.page.text},
                     {"role": "assistant", "content": answer(move.command, move.thought, terse)}]
        visit.do(shopping_command(move.command))
    return messages


def _shuffled(shop: Shop, seed: int, split: str) -> list[int]:
    """The numbers of a split's goals."""
    held_out = {"train": False, "test": True}[split]
    numbers = [number for number, goal in enumerate(shop.goals) if is_held_out(goal.product) == held_out]
    random.Random(f"shopping {seed} {split}").shuffle(numbers)
    return numbers


def _instructed(terse: bool) -> list[dict[str, str]]:
    return [{"role": "system", "content": instructions(terse)}]
