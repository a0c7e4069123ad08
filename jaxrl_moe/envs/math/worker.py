"""A program that compares answers by math-verify: it reads {"gold", "answer"} and answers with a verdict,
line by line. It stands alone and imports nothing of this package, so that it is small.

    python -P worker.py MEMORY_BYTES CPU_SECONDS
"""
import json
import logging
import resource
import sys


def limit(kind: int, most: float) -> None:
    """Bounds what this process may use, where a lower bound than the present one is meant."""
    _, hard = resource.getrlimit(kind)
    most = int(most)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def verdict(request: dict) -> dict:
    """Whether answer and gold are the same, and whether the answer could be read."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    # There is no alarm: who asks kills this process where it takes too long.
    kinds = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    answer = parse(request["answer"], kinds, parsing_timeout=None)
    gold = parse(request["gold"], kinds, parsing_timeout=None)
    correct = bool(answer) and bool(gold) and verify(gold, answer, timeout_seconds=None)
    return {"correct": bool(correct), "answered": bool(answer), "gold": bool(gold)}


def main() -> None:
    import math_verify  # noqa: F401  # before the bounds, which are for what policies write

    logging.disable(logging.CRITICAL)
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    limit(resource.RLIMIT_AS, memory)
    answers = sys.stdout.buffer
    answers.write(b"{}\n")
    answers.flush()
    for line in sys.stdin.buffer:
        # Were it left alone by who asked, the kernel would end it soon.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, used.ru_utime + used.ru_stime + seconds + 5)
        answers.write(json.dumps(verdict(json.loads(line))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
