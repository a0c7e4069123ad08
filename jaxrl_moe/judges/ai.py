"""A judge that is a language model behind an OpenAI-compatible endpoint."""
import collections
import concurrent.futures
import hashlib
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.judges.chat import ChatEndpoint
from jaxrl_moe.judges.comparing import shares, won_both_ways, won_by_order
from jaxrl_moe.judges.groups import JudgedGroups
from jaxrl_moe.judges.judge import Judge, JudgeError
from jaxrl_moe.judges.kept import KeptVerdicts
from jaxrl_moe.judges.questions import PROMPTS, pair_question, ranking_question, rubric_question
from jaxrl_moe.judges.records import Ask, Verdict, Work, check_ask
from jaxrl_moe.types import UserError

GROUPS_AT_ONCE = 64   # that are compared; their questions share the bound on calls
MOST_FAILED = 10_000  # items whose failure is remembered


class AiJudge(Judge):
    """Judges by a model. What it has said of a work is kept, and the same is not asked again.

    Args:
      endpoint: with the model; closed with the judge.
      concurrency: calls of the endpoint at once.
      pictures: whether the model is shown pictures.
      kept: path of an SQLite file for verdicts, which outlives the process; empty: they are kept in memory.
      group_patience: seconds that works which are to be compared wait for the next one of their group.

    Raises:
      UserError: the file cannot be used.
    """

    def __init__(self, endpoint: ChatEndpoint, *, concurrency: int = 8, pictures: bool = False,
                 kept: str = "", group_patience: float = 3600.0):
        self.concurrency = concurrency
        self._endpoint = endpoint
        self._pictures = pictures
        self._kept = KeptVerdicts(kept)
        self._closed = False
        self._door = threading.Condition()
        self._working: set[str] = set()
        self._failed: dict[str, str] = {}
        self._groups = JudgedGroups(group_patience)
        self._calls = concurrent.futures.ThreadPoolExecutor(concurrency, "judge calls")
        self._comparisons = concurrent.futures.ThreadPoolExecutor(GROUPS_AT_ONCE, "judge groups")

    @property
    def model(self) -> str:
        return self._endpoint.model

    def submit(self, work: Work, ask: Ask) -> str:
        """As in Judge; a work whose judgement failed is judged anew."""
        self._check(work, ask)
        item = self._item(work, ask)
        with self._door:
            if ask.mode == "rubric":
                self._begin([item], self._calls, lambda: {item: self._scored(work, ask)})
                return item
            key = ask.run, ask.mode, json.dumps(ask.rubric.plain()), work.group
            group = self._groups.join(key, item, work, ask)
            if group.complete:
                works = {each: shown for (each, _), shown in group.works.items()}
                counts = collections.Counter(each for each, _ in group.works)
                self._begin(list(works), self._comparisons, lambda: self._compared(works, counts, ask))
        return item

    def verdict(self, item: str, wait: float = 0.0) -> Verdict | None:
        """As in Judge."""
        with self._door:
            self._door.wait_for(lambda: self._known(item) is not None, wait)
            return self._known(item)

    def drop(self, item: str, why: str) -> None:
        """As in Judge: a work that waits for others leaves its group. What the model is asked already is not
        called off, and kept."""
        with self._door:
            if item not in self._working and item not in self._failed and self._kept.get(item) is None:
                self._groups.leave(item)

    def close(self) -> None:
        """As in Judge: what is being judged is given up, and is judged when it is handed in again."""
        self._endpoint.close()
        self._comparisons.shutdown(cancel_futures=True)
        self._calls.shutdown(cancel_futures=True)
        with self._door:
            self._closed = True
            self._kept.close()
            self._door.notify_all()

    def _check(self, work: Work, ask: Ask) -> None:
        check_ask(work, ask)
        if not self._pictures and all(part.kind == "png" for part in work.shown):
            raise UserError(f"The work has pictures alone, and the judge's model {self.model!r} is shown "
                            "none. Hand in its page or text too, or have a model that takes pictures judge, "
                            "with --llm_pictures.")

    def _item(self, work: Work, ask: Ask) -> str:
        """The hash of all that the verdict depends on."""
        group = [] if ask.mode == "rubric" else [ask.run, work.group, work.group_size]
        asked = [work.digest(), ask.rubric.plain(), ask.mode, ask.turns, group, self.model, self._pictures,
                 PROMPTS]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _begin(self, items: Iterable[str], pool: concurrent.futures.Executor,
               judge: Callable[[], Mapping[str, Verdict]]) -> None:
        """Has items judged, but for those that are already, or are being judged. The door is held."""
        new = [item for item in items if item not in self._working and self._kept.get(item) is None]
        if self._closed or not new:
            return
        for item in new:
            self._failed.pop(item, None)
        self._working.update(new)
        pool.submit(self._judge, new, judge)

    def _judge(self, items: Iterable[str], judge: Callable[[], Mapping[str, Verdict]]) -> None:
        failed = {}
        try:
            verdicts = judge()
            for item in items:
                self._kept.put(item, verdicts[item])
        except Exception as error:  # whatever it is, somebody waits
            if not isinstance(error, UserError):
                logging.getLogger(__name__).error("A work could not be judged", exc_info=error)
            failed = dict.fromkeys(items, str(error) if isinstance(error, UserError) else crash(error))
        with self._door:
            self._working.difference_update(items)
            self._failed |= failed
            while len(self._failed) > MOST_FAILED:
                del self._failed[next(iter(self._failed))]
            self._door.notify_all()

    def _known(self, item: str) -> Verdict | None:
        """The verdict, if there is one, or what verdict() raises. The door is held."""
        if self._closed:
            raise JudgeError("The judge was closed.")
        if item in self._working:
            return None
        kept = self._kept.get(item)
        if kept is not None:
            return kept
        lost = self._failed.get(item) or self._groups.lost(item)  # KeyError: there is no such item
        if lost:
            raise JudgeError(lost)
        return None

    def _scored(self, work: Work, ask: Ask) -> Verdict:
        (scores, turns), raw = self._endpoint.ask(rubric_question(work, ask, self._pictures))
        return Verdict(min(1.0, ask.rubric.total(scores)), scores, turns, self.model, raw)

    def _compared(self, works: Mapping[str, Work], counts: Mapping[str, int],
                  ask: Ask) -> dict[str, Verdict]:
        """The verdicts of a group's works, of which some may be equal."""
        order = sorted(works)  # by hashes, which say nothing of them and give each every place in turn
        if ask.mode == "pairwise":
            shown = list(itertools.permutations(order, 2))
        else:
            shown = [tuple(order)] if len(order) > 1 else []

        def compare(items: tuple[str, ...]) -> tuple[Any, str]:
            question = pair_question if ask.mode == "pairwise" else ranking_question
            return self._endpoint.ask(question([works[item] for item in items], ask.rubric, self._pictures))
        answers = dict(zip(shown, self._calls.map(compare, shown)))
        values = {items: value for items, (value, _) in answers.items()}
        if ask.mode == "pairwise":
            won = won_both_ways(values)
        else:
            won = won_by_order(items[place] for items, places in values.items() for place in places)
        raw = {item: [{"shown": items, "answer": text} for items, (_, text) in answers.items()
                      if item in items] for item in works}
        return {item: Verdict(reward, judge=self.model, raw=json.dumps(raw[item]))
                for item, reward in shares(counts, won).items()}
