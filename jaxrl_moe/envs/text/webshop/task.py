"""WebShop as a task: a row names a goal, and its episode shops for it."""
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxrl_moe.envs.bounds import check_least, check_range
from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.envs.text.answers import BadAction
from jaxrl_moe.envs.text.functions import Answers, CommandForm
from jaxrl_moe.envs.text.webshop.catalogue import GOALS_A_PRODUCT, OUR_PRODUCTS, Shop, our_shop, shop_name
from jaxrl_moe.envs.text.webshop.files import Goals, shop_of
from jaxrl_moe.envs.text.webshop.instructions import CALLING, FUNCTIONS, INSTRUCTIONS, shopping_command
from jaxrl_moe.envs.text.webshop.nouns import Nouns, nouns_by
from jaxrl_moe.envs.text.webshop.products import ShoppingGoal
from jaxrl_moe.envs.text.webshop.visit import CannotDoError, Visit
from jaxrl_moe.protocols import Env, Task
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import Action, Messages, Step, UserError

MOST_PRODUCTS = 100_000


@dataclasses.dataclass
class WebShop(Task):
    """Shopping by WebShop's rules, in a small shop of our own: its scores are none of WebShop's. The reward
    comes with the purchase, from 0 to 1, see reward.py. A row says which goal by `id`, a number, or by
    `item_id`, as "webshop_12".

    Attributes:
      max_turns: turns after which an episode is cut.
      products: that our shop has, each with two goals; of files the most that are read.
      seed: of our shop.
      data: a folder with WebShop's own files, whose shop it is then; empty: our own.
      goals: of these files, those made of products ("synthetic") or those that people wrote ("human").
      show_attributes: whether a product has a page with its attributes.
      nouns: how the nouns of titles are told, by a list or by spaCy's model en_core_web_lg.
      answers: commands are given in words ("react") or by calling functions.

    Raises:
      UserError: a number is out of range.
    """
    max_turns: int = 10
    products: int = OUR_PRODUCTS
    seed: int = 0
    data: str = ""
    goals: Goals = "synthetic"
    show_attributes: bool = False
    nouns: Nouns = "list"
    answers: Answers = "react"
    lowest_reward: ClassVar[float] = 0.0
    concurrent: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wire: ClassVar[str] = "webshop"

    def __post_init__(self) -> None:
        if self.data and self.seed or not self.data and self.goals == "human":
            raise UserError("seed is of our own shop, and goals of WebShop's files: set data, or leave goals "
                            "out; and of seed and data set one.")
        check_least(self, max_turns=1, seed=0)
        check_range(self, products=(1, MOST_PRODUCTS))
        self._form = CommandForm(shopping_command, FUNCTIONS if self.answers == "functions" else ())

    def ready(self) -> None:
        """Makes the shop, and the model that tells nouns, if any.

        Raises:
          UserError: SQLite has no FTS5, or spaCy's model is not there.
        """
        self.shop()
        nouns_by(self.nouns)

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The commands as functions, where answers are calls of these."""
        return self._form.tools

    def instructions(self, row: Mapping[str, Any]) -> str:
        """The commands, and the form of an answer; the same for every row."""
        return CALLING if self._form.functions else INSTRUCTIONS

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that names no goal of this shop."""
        self._number(row)

    def open(self, row: Mapping[str, Any], seed: int) -> "WebShopEpisode":
        """An episode for the row's goal; nothing follows from the seed."""
        return WebShopEpisode(Visit(self.shop(), self.goal(row), nouns_by(self.nouns), self.show_attributes),
                              self._form)

    def close(self) -> None:
        """There is nothing to free."""

    def shop(self) -> Shop:
        """Its products and goals."""
        if self.data:
            return shop_of(self.data, self.goals, self.products)
        return our_shop(self.seed, self.products)

    def goal(self, row: Mapping[str, Any]) -> ShoppingGoal:
        """The goal that a row names.

        Raises:
          UserError: it names none of this shop.
        """
        return self.shop().goals[self._number(row)]

    def _number(self, row: Mapping[str, Any]) -> int:
        number = episode_number(row, "webshop")
        name = shop_name(self.seed, self.products)
        if row.get("shop") is not None and (self.data or row["shop"] != name):
            raise UserError(f"The row is of the shop {quoted(row['shop'])}, and the task's is "
                            f"{quoted(self.data or name)}: give the task the shop of its rows.")
        count = len(self.shop().goals) if self.data else self.products * GOALS_A_PRODUCT
        if number >= count:
            raise UserError(f"There is no goal {number}: the shop has {count}, numbered from 0.")
        return number


class WebShopEpisode(Env):
    """One visit, in commands and pages."""

    def __init__(self, visit: Visit, form: CommandForm):
        self._visit = visit
        self._form = form
        self._turns = 0
        self._valid = 0
        self._life = Lifecycle()

    @property
    def available_actions(self) -> Mapping[str, Any]:
        """What the page offers, as WebShop's servers tell it: has_search_bar, and clickables."""
        page = self._visit.page
        return {"has_search_bar": page.can_search, "clickables": list(page.clickables)}

    @property
    def page(self) -> str:
        """The page that is shown, that after the purchase included."""
        return self._visit.page.text

    @property
    def instruction_text(self) -> str:
        """What is to be bought."""
        return self._visit.goal.instruction

    def reset(self) -> Messages:
        """The instruction, on the page of the search."""
        self._life.begin()
        return self._form.observation(self.page)

    def step(self, action: Action) -> Step:
        """Carries out the command that an answer gives; one that is impossible changes nothing, and is told
        before the page. info: "correct", whether the purchase is worth 1, "score", what it is worth, "valid",
        the share of the turns up to now whose command did something, and of what the score is made."""
        self._life.check_running()
        self._turns += 1
        told = self._told(action)
        self._valid += not told
        bought = self._visit.bought
        score = bought.reward if bought else 0.0
        info = {"correct": float(score == 1), "score": score, "valid": self._valid / self._turns}
        if not bought:
            text = f"{told}\n{self.page}" if told else self.page
            return Step(0.0, False, info, self._form.observation(text, action))
        self._life.end()
        return Step(score, True, info | {f"{name}_met": value for name, value in bought._asdict().items()
                                         if name != "reward"})

    def _told(self, action: Action) -> str:
        """Carries out a command; what was wrong with it, or nothing."""
        try:
            self._visit.do(self._form.command(action))
        except (BadAction, CannotDoError) as error:
            return f"Invalid action: {error}"
        return ""

    def close(self) -> None:
        """There is nothing to free."""
        self._life.end()
