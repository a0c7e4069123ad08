"""A worker of no package, run as adapters' workers are: it adds up what it is told, and misbehaves where it
is told to."""
import os
import subprocess
import sys
import time

from worker_loop import Refused, serve

OUTSIDE = {  # lines of which none is an answer
    "garbage": b"Traceback (most recent call last)\n",
    "list": b"[]\n",
    "nan": b'{"id": 5, "result": NaN}\n',
    "another": b'{"id": 1, "result": {}}\n',
    "neither": b'{"id": 5}\n',
    "much": b"x" * 2**25 + b"\n"}


class Adding:
    """Ends with its second step; the reward is the sum of the digits of what was said. Facts and tools are
    what the settings say."""

    def begin(self, **settings):
        print("a package greets")
        if settings.get("id") == "refused":
            raise Refused("There is no such sum.")
        if settings.get("id") == "dies":
            print("no module of that name", file=sys.stderr)
            os._exit(3)
        if settings.get("id") == "hangs":
            time.sleep(1000)
        return {"pid": os.getpid(), "tools": settings.get("tools", [])}

    def open(self, number=0, **chosen):
        if number == 13:
            raise Refused("There is no sum 13.")
        return Sum(number)


class Sum:
    def __init__(self, number):
        self.number = number
        self.steps = 0

    def reset(self):
        if self.number == 14:
            raise KeyError("the sum")
        return {"observation": [f"Sum {self.number}"]}

    def step(self, command="", text="", calls=(), **rest):
        said = command or text or " ".join(str(call) for call in calls)
        word, _, argument = said.partition(" ")
        if hasattr(self, f"do_{word}"):
            return getattr(self, f"do_{word}")(argument)
        self.steps += 1
        digits = [int(letter) for letter in said if letter.isdigit()]
        shown = [f"{sum(digits)}"] * max(len(calls), 1)
        return {"observation": shown, "reward": float(sum(digits)), "done": self.steps == 2,
                "info": {"steps": self.steps}}

    def told(self, text, **more):
        return {"observation": [text], "reward": 0.0, "done": False, **more}

    def do_hang(self, argument):
        time.sleep(1000)

    def do_die(self, argument):
        print("the last words", file=sys.stderr)
        sys.stderr.flush()
        os._exit(5)

    def do_raise(self, argument):
        raise ZeroDivisionError("of the\x07 sum")

    def do_say(self, argument):
        os.write(ANSWERS, OUTSIDE[argument])
        time.sleep(1000)

    def do_deaf(self, argument):
        os.closerange(3, 100)
        time.sleep(1000)

    def do_print(self, argument):
        print('{"id": 1, "result": {}}' * 20_000)
        os.write(1, b"x" * 100_000)
        os.system("echo loud")
        return self.told("printed")

    def do_read(self, argument):
        return self.told(repr(sys.stdin.read()))

    def do_nan(self, argument):
        return self.told("", reward=float("nan"))

    def do_text(self, argument):
        return self.told("", reward="much")

    def do_more(self, argument):
        return self.told("", extra=1)

    def do_surrogate(self, argument):
        return self.told("half \ud800")

    def do_large(self, argument):
        return self.told("x" * 2**24)

    def do_environment(self, argument):
        return self.told(" ".join(sorted(os.environ)))

    def do_child(self, argument):
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        return self.told(f"{os.getpid()} {child.pid}")

    def do_number(self, argument):
        return self.told(str(self.number))

    def do_pid(self, argument):
        return self.told(str(os.getpid()))

    def close(self):
        if self.number == 15:
            raise OSError("the sum stays open")


if __name__ == "__main__":
    ANSWERS = os.dup(1)
    serve(Adding())
