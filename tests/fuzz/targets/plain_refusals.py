"""What the targets of environment servers share: an answer is JSON, and a refusal {"error": a sentence}."""
import abc
from typing import Any

from tests.fuzz.reading import Damaged, strict
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import Answer, HttpTarget

STATUSES = (200, 307, 401, 404, 405)  # 307: to the path without its last slash


class PlainRefusals(HttpTarget):
    """Requests to a server of this kind."""

    @abc.abstractmethod
    def judge_answer(self, method: str, path: str, data: bytes, answer: Any) -> str:
        """What is wrong with an answer that is no refusal, or with the request that was taken; empty:
        nothing."""

    def answered(self, url: str) -> Answer:
        """The answer to the request; raises what the server logged, or Wrong for a status of none."""
        self.caught.error = None
        answer = self.send(url, *self.request)
        if self.caught.error is not None:
            raise self.caught.error
        if answer[0] not in STATUSES and answer[1] != "closed" and not of_uvicorn(answer):
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        return answer

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, _ = self.request
        if kind == "closed" or method == "HEAD" or of_uvicorn(result) or path in ("/docs", "/openapi.json"):
            return ""
        if status == 307 or path == "/metrics" and kind.startswith("text/plain"):
            return ""
        try:
            answer = strict(body)
        except Damaged as error:
            return f"an answer that is no JSON: {status} {kind} {body[:200]!r} {error}"
        if isinstance(answer, dict) and "error" in answer:
            return misshapen(answer)
        if status != 200:
            return f"a refusal of another shape: {status} {body[:200]!r}"
        return self.judge_answer(method, path, data, answer)


def of_uvicorn(answer: Answer) -> bool:
    """Whether the request did not get as far as the application."""
    return answer[1].startswith("text/plain") and b"Invalid HTTP request" in answer[2]


def misshapen(answer: dict[str, Any]) -> str:
    """What is wrong with a refusal."""
    said = answer["error"]
    if list(answer) != ["error"] or not isinstance(said, str) or not said.strip():
        return f"a refusal of another shape: {str(answer)[:300]}"
    if "Traceback" in said or "\n" in said or not said.endswith("."):
        return f"a refusal that is no sentence: {said[:300]!r}"
    return "" if len(said) < 3000 else f"an endless refusal: {len(said)} characters"
