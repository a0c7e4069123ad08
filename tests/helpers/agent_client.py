"""An agent in a process of its own that knows nothing of this package: it asks for sessions over HTTP, plays
them with the openai client, and writes down what it was answered.

    python agent_client.py URL KEY RECORD [how]
"""
import json
import sys
import time

import httpx
import openai

LOOK = {"type": "function", "function": {"name": "look"}}
RAW = {"return_token_ids": True}


def chat(client, model, messages, stream, tools):
    """(message, prompt ids, drawn ids) of a chat completion."""
    options = dict(model=model, messages=messages, extra_body=RAW, **({"tools": [LOOK]} if tools else {}))
    if not stream:
        got = client.chat.completions.create(**options)
        choice = got.choices[0]
        return choice.message.model_dump(), got.prompt_token_ids, choice.token_ids
    events = list(client.chat.completions.create(**options, stream=True))
    content = "".join(event.choices[0].delta.content or "" for event in events)
    ids = [token for event in events for token in event.choices[0].token_ids]
    return {"role": "assistant", "content": content}, events[0].prompt_token_ids, ids


def complete(client, model, text):
    """(text, prompt ids, drawn ids) of a text completion."""
    choice = client.completions.create(model=model, prompt=text, extra_body=RAW).choices[0]
    return choice.text, choice.prompt_token_ids, choice.token_ids


def play(session, number, how):
    """Three turns; the calls as this side has seen them, and the reward."""
    client = openai.OpenAI(base_url=session["base_url"], api_key="none", max_retries=0, timeout=120)
    question = session["row"]["question"]
    calls = []
    if how == "texts":
        text = question
        for turn in range(3):
            said, *ids = complete(client, session["model"], text)
            calls.append(ids)
            text += said + f" {turn}?"
        return calls, float(len(text) % 3)
    messages = [{"role": "user", "content": question}]
    for turn in range(3):
        message, *ids = chat(client, session["model"], messages, number % 2 == 1, number % 3 == 0)
        calls.append(ids)
        if how == "rewrites":  # what was said is told shortly, so that no call goes on from another
            message = {"role": "assistant", "content": f"(turn {turn})"}
        messages += [message, {"role": "user", "content": f"Seen {turn}."}]
    return calls, float(len(str(messages)) % 3)


def wait_for(http):
    """Until the server is there."""
    while True:
        try:
            return http.get("/health")
        except httpx.ConnectError:
            time.sleep(0.2)


def main(url, key, record, how="chats"):
    http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=700)
    wait_for(http)
    number = 0
    with open(record, "a") as file:
        while (answer := http.post("/sessions", json={"wait": 600})).status_code in (200, 503):
            if answer.status_code == 503:
                continue
            session = answer.json()
            if how == "leaves" and number == 1:  # it takes an episode, and is never heard of again
                number += 1
                continue
            calls, reward = play(session, number, how)
            body = {"reward": reward, "info": {"correct": float(reward > 0)}}
            if how == "fails" and number % 4 == 1:
                body = {"error": "the browser is gone"}
            http.post(f"/sessions/{session['id']}/finish", json=body).raise_for_status()
            file.write(json.dumps({"calls": calls, "body": body}) + "\n")
            file.flush()
            number += 1
        print(answer.status_code, answer.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
