"""A process that works on a queue until it is killed: python -m tests.helpers.queue_worker ROLE URL LOG NAME.

`put` hands works in, `judge` leases and answers. Each writes into its log what a call that returned has told
it, a line at a time.
"""
import itertools
import json
import os
import random
import sys

from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import SqlQueue
from tests.helpers.judged import BY_RUBRIC, number_of, scored, work

MINUTES = 600.0


def put(queue, tell, name):
    """Numbers from where the log ends, as a run that goes on does."""
    for number in itertools.count(int(name)):
        tell({"put": queue.put(work(number), BY_RUBRIC), "number": number})


def judge(queue, tell, name):
    dice = random.Random(os.getpid())
    while True:
        lease = queue.lease(name, MINUTES)
        if lease is None:
            continue
        tell({"leased": lease.item, "token": lease.token})
        if dice.random() < 0.1:
            queue.give_back(name, lease.token)
            continue
        number = number_of(lease.works[0])
        try:
            queue.answer(name, lease.token, scored(number % 100 / 100))
        except QueueError as error:
            tell({"refused": str(error)})
            continue
        tell({"answered": lease.item, "number": number})


def main():
    role, url, log, name = sys.argv[1:]
    queue = SqlQueue(url)
    with open(log, "a", buffering=1) as file:
        {"put": put, "judge": judge}[role](queue, lambda row: file.write(json.dumps(row) + "\n"), name)


if __name__ == "__main__":
    main()
