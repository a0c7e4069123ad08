"""Questions to a model behind an OpenAI-compatible endpoint, answered by JSON objects of a given form."""
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl_moe.judges.judge import JudgeError
from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.outside import Fields, OutsideError, parse
from jaxrl_moe.types import EnvError, Status, UserError

PAUSE_SECONDS = 1.0  # before the second try; each further one waits twice as long
PASSING = (408, 409, 425, 429)  # statuses beside 5xx that may be others soon
NO_FORMAT = (400, 422)          # with which endpoints refuse a response_format that they have not
SECRET = (401, 403)             # whose answers may tell of the key
REPAIR = ("That answer cannot be used: {wrong} Answer once more with the JSON object alone, in the form that "
          "was asked for.")


@dataclasses.dataclass(frozen=True)
class Question:
    """What a model is asked.

    Attributes:
      name: of the answer's form.
      messages: of the chat.
      schema: the answer's JSON schema.
      read: makes the answer's value, or raises UserError where it does not fit.
    """
    name: str
    messages: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any]
    read: Callable[[Fields], Any]


class ChatEndpoint:
    """An OpenAI-compatible endpoint and a model there. Any thread may call it.

    Args:
      url: as http://127.0.0.1:8000/v1.
      model: its name there.
      api_key: empty: there is none.
      timeout: seconds of a call.
      retries: further tries of a call that fails by time-out, connection, 429 or 5xx.
      temperature: None: the endpoint's own.
      max_tokens: of an answer; 0: as many as the endpoint lets it have.

    Raises:
      UserError: the URL is none.
    """

    def __init__(self, url: str, model: str, *, api_key: str = "", timeout: float = 45.0, retries: int = 2,
                 temperature: float | None = 0.0, max_tokens: int = 0):
        self._url = f"{checked_url(url, 'llm_url', 'http://host:port/v1')}/chat/completions"
        self.model = model
        self._retries = retries
        self._settings = {"model": model}
        self._settings |= {} if temperature is None else {"temperature": temperature}
        self._settings |= {"max_tokens": max_tokens} if max_tokens else {}
        self._formats = True  # until the endpoint turns out to take no response_format
        self._over = threading.Event()
        self._connection = Connection(timeout, api_key=api_key)

    def ask(self, question: Question) -> tuple[Any, str]:
        """(what the question reads from the answer, the answer word for word). An answer that cannot be read
        is asked for once more.

        Raises:
          JudgeError: no answer comes, or none that can be read.
        """
        first = self._answer(question, question.messages)
        try:
            return question.read(answer_fields(first)), first
        except UserError as error:
            repair = REPAIR.format(wrong=error)
        second = self._answer(question, (*question.messages, {"role": "assistant", "content": first or "{}"},
                                         {"role": "user", "content": repair}))
        try:
            return question.read(answer_fields(second)), second
        except UserError as error:
            raise JudgeError(f"{self.model} at {self._url} gave no answer that can be used, nor when it was "
                             f"told so: {error}") from error

    def close(self) -> None:
        """Ends the calls at work, which fail."""
        self._over.set()
        self._connection.close()

    def _answer(self, question: Question, messages: Sequence[Mapping[str, Any]]) -> str:
        """What the model answers, word for word."""
        try:
            return content_of(self._formatted(self._settings | {"messages": list(messages)}, question))
        except StatusError as error:
            said = f"{self._url} takes no such key: status {error.code}." if error.code in SECRET else error
            raise JudgeError(f"The judge's model cannot be asked: {said}") from error
        except (EnvError, OutsideError) as error:
            raise JudgeError(f"The judge's model cannot be asked: {error}") from error

    def _formatted(self, body: Mapping[str, Any], question: Question) -> Any:
        """The endpoint's answer, in the question's form where the endpoint can hold the model to it."""
        form = {"name": question.name, "strict": True, "schema": question.schema}
        if not self._formats:
            return self._tried(body)
        try:
            return self._tried({**body, "response_format": {"type": "json_schema", "json_schema": form}})
        except StatusError as error:
            if error.code not in NO_FORMAT:
                raise
        answer = self._tried(body)  # where this is refused too, the form was not the reason
        self._formats = False
        return answer

    def _tried(self, body: Mapping[str, Any]) -> Any:
        for attempt in range(self._retries):
            try:
                return self._connection.post(self._url, body, Status.STEP_FAILED)
            except EnvError as error:
                if not _passes(error) or self._over.wait(PAUSE_SECONDS * 2**attempt):
                    raise
        return self._connection.post(self._url, body, Status.STEP_FAILED)


def _passes(error: EnvError) -> bool:
    """Whether the same call may go well soon."""
    if isinstance(error, StatusError):
        return error.code >= 500 or error.code in PASSING
    return error.status in (Status.UNREACHABLE, Status.TIMED_OUT)


def content_of(answer: Any) -> str:
    """The text of a chat completion; "" where the model wrote none.

    Raises:
      OutsideError: it is no chat completion.
    """
    where = "the model's answer"
    choices = Fields(answer, where).values.get("choices")
    if not isinstance(choices, list) or not choices:
        raise OutsideError(f"{where} has no choices: it is no chat completion.")
    message = Fields(choices[0], f"{where}: choice 0").object("message")
    return message.string("content", "")


def answer_fields(text: str) -> Fields:
    """The JSON object that an answer is, after the model's thoughts, if it wrote any, and in a fence or not.
    It must be the whole rest: what stands somewhere within may be what the judged one wrote.

    Raises:
      OutsideError: it is none.
    """
    rest = text.rpartition("</think>")[2].strip()
    if rest.startswith("```") and rest.endswith("```") and "\n" in rest:
        rest = rest[:-3].partition("\n")[2]
    return Fields(parse(rest, "the answer"), "the answer")
