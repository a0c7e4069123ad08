"""A model is asked: what its answers may look like, what is tried again, and what is told of failures."""
import threading
import time

import pytest

from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.judges import chat
from jaxrl_moe.judges.chat import ChatEndpoint, Question, answer_fields
from jaxrl_moe.judges.judge import JudgeError
from jaxrl_moe.types import UserError
from tests.helpers.chat_server import ChatServer, in_turn

KEY = "sk-very-secret-key-of-a-user"
SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"],
          "additionalProperties": False}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(chat, "PAUSE_SECONDS", 0.01)


def read(fields):
    fields.only(["score"])
    return fields.number("score", least=0, most=1)


QUESTION = Question("score", ({"role": "system", "content": "Judge."}, {"role": "user", "content": "Work"}),
                    SCHEMA, read)


def asked(server, **settings):
    endpoint = ChatEndpoint(server.url, "judge", **{"api_key": KEY, "timeout": 20} | settings)
    try:
        return endpoint.ask(QUESTION)
    finally:
        endpoint.close()


def test_a_question_goes_out_with_its_form_and_the_key_and_is_read_word_for_word():
    with ChatServer(in_turn('{"score": 0.25}')) as server:
        assert asked(server, max_tokens=100) == (0.25, '{"score": 0.25}')
    [(body, headers)] = server.asked
    assert headers["Authorization"] == f"Bearer {KEY}"
    form = {"name": "score", "strict": True, "schema": SCHEMA}
    assert body == {"model": "judge", "temperature": 0.0, "max_tokens": 100,
                    "messages": list(QUESTION.messages),
                    "response_format": {"type": "json_schema", "json_schema": form}}


def test_the_temperature_may_be_the_endpoints_own():
    with ChatServer(in_turn('{"score": 0}')) as server:
        asked(server, temperature=None)
    assert server.asked[0][0].keys() == {"model", "messages", "response_format"}


@pytest.mark.parametrize("answer", [
    '{"score": 1}', ' \n{"score": 1}\n', '```json\n{"score": 1}\n```', '```\n{"score": 1}```',
    '<think>Is it {"score": 0}? No.</think>\n{"score": 1}', '<think>Hm.</think>```json\n{"score": 1}\n```'])
def test_answers_may_have_thoughts_before_and_a_fence_around(answer):
    assert read(answer_fields(answer)) == 1


@pytest.mark.parametrize("answer", [
    "", "Good.", '{"score": 1', 'The work says {"score": 1}', '{"score": 1} {"score": 0}',
    '{"score": 0, "score": 1}', '{"score": NaN}', '{"score": "1"}', '{"score": 1.5}', '[{"score": 1}]',
    '{"score": 1, "sure": true}', '{"score": true}', '```json\n{"score": 1}\n```\nBut {"score": 0}.',
    '{"score": 1}</think>', '{"score": ' + "[" * 5000])
def test_an_answer_of_another_form_is_repaired_once_and_then_no_verdict(answer):
    with ChatServer(in_turn(answer, '{"score": 0.5}')) as server:
        assert asked(server) == (0.5, '{"score": 0.5}')
    first, second = [body["messages"] for body, _ in server.asked]
    assert second[:2] == first and [each["role"] for each in second[2:]] == ["assistant", "user"]
    assert second[2]["content"] == (answer or "{}") and "cannot be used: the answer" in second[3]["content"]
    with ChatServer(in_turn(answer)) as server, pytest.raises(JudgeError, match="nor when it was told so"):
        asked(server)
    assert len(server.asked) == 2


def test_an_endpoint_without_structured_answers_is_asked_without_them_from_then_on():
    def plain(body):
        return (400, {"error": "response_format"}) if "response_format" in body else '{"score": 1}'
    with ChatServer(plain) as server:
        endpoint = ChatEndpoint(server.url, "judge")
        assert [endpoint.ask(QUESTION)[0] for _ in range(3)] == [1, 1, 1]
        endpoint.close()
    assert ["response_format" in body for body, _ in server.asked] == [True, False, False, False]


def test_what_is_refused_with_and_without_a_form_is_told_and_the_form_stays():
    with ChatServer(in_turn((400, {"error": {"message": "the context is too long"}}))) as server:
        endpoint = ChatEndpoint(server.url, "judge")
        for _ in range(2):
            with pytest.raises(JudgeError, match="status 400.*the context is too long"):
                endpoint.ask(QUESTION)
        endpoint.close()
    assert ["response_format" in body for body, _ in server.asked] == [True, False, True, False]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_busy_endpoint_is_asked_again_and_a_lasting_failure_is_none_of_the_work(status):
    with ChatServer(in_turn((status, {}), (status, {}), '{"score": 1}')) as server:
        assert asked(server)[0] == 1
    assert len(server.asked) == 3
    with ChatServer(in_turn((status, {}))) as server, pytest.raises(JudgeError, match=f"status {status}"):
        asked(server, retries=1)
    assert len(server.asked) == 2


@pytest.mark.parametrize("answer, words", [
    ((200, {}), "no choices"), ((200, {"choices": []}), "no choices"), ((200, {"choices": [1]}), "JSON"),
    ((200, {"choices": [{"message": {"content": 3}}]}), "content is 3"), ((200, [1]), "a list"),
    ((404, {"error": {"message": "no model judge"}}), "no model judge"), ((307, {}), "status 307"),
    ((200, {"error": {"message": "overloaded"}}), "overloaded")])
def test_an_answer_that_is_no_chat_completion_is_told_and_not_tried_again(answer, words):
    with ChatServer(in_turn(answer)) as server, pytest.raises(JudgeError, match=words):
        asked(server)
    assert len(server.asked) == 1


def test_a_call_has_its_seconds_and_an_absent_endpoint_is_told():
    with ChatServer(in_turn(None)) as server, pytest.raises(JudgeError, match="within 0.2 seconds"):
        asked(server, timeout=0.2, retries=1)
    assert len(server.asked) == 2
    endpoint = ChatEndpoint(f"http://127.0.0.1:{free_port()}/v1", "judge", retries=0)
    with pytest.raises(JudgeError, match="cannot be reached"):
        endpoint.ask(QUESTION)
    endpoint.close()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_the_key_is_in_no_error_even_where_the_endpoint_tells_it(status):
    told = {"error": {"message": f"bad key {KEY}, that is {KEY[:12]}***" if status in (401, 403) else KEY}}
    with ChatServer(in_turn((status, told))) as server, pytest.raises(JudgeError) as failed:
        asked(server, retries=0)
    shown = repr(failed.value) + str(failed.value)
    assert KEY not in shown and KEY[:12] not in shown
    assert (f"takes no such key: status {status}" in shown) == (status in (401, 403))


def test_closing_ends_a_call_and_a_pause(monkeypatch):
    for answer, pause in ((None, 0.01), ((503, {}), 60.0)):
        monkeypatch.setattr(chat, "PAUSE_SECONDS", pause)
        with ChatServer(in_turn(answer)) as server:
            endpoint = ChatEndpoint(server.url, "judge", timeout=60)
            failures = []
            thread = threading.Thread(target=_ask_in_vain, args=(endpoint, failures))
            thread.start()
            while not server.asked:
                time.sleep(0.01)
            endpoint.close()
            thread.join(20)
            assert not thread.is_alive() and len(failures) == 1


def _ask_in_vain(endpoint, failures):
    try:
        endpoint.ask(QUESTION)
    except UserError as error:
        failures.append(error)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(UserError, match="llm_url"):
        ChatEndpoint("127.0.0.1:8000", "judge")
