"""A client that was written for API in One: submits a video, asks until it is done, downloads it.

    python3 upstream.py BASE_URL API_KEY

Prints a line of JSON for each thing that it tried.
"""

import json
import sys
import time
import urllib.error
import urllib.request

BASE, KEY = sys.argv[1:]
DONE = {"SUCCESS", "FAILED"}


def call(method, path, body=None, key=KEY):
    request = urllib.request.Request(BASE + path, method=method)
    request.add_header("Authorization", f"Bearer {key}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def submit(key=KEY, **fields):
    body = {"model": "kling-3", "prompt": "a paper boat", "duration": 3, **fields}
    return call("POST", "/api/v1/videos/generations", body, key)


def finished(task_id):
    while True:
        status, answer = call("GET", f"/api/v1/tasks/{task_id}")
        task = answer["data"]
        if task["status"] in DONE:
            return answer["code"], answer["message"], task
        assert (status, task["status"]) == (200, "IN_PROGRESS"), answer
        time.sleep(0.05)


def video(what, **fields):
    _, answer = submit(**fields)
    began = answer["data"]
    assert isinstance(began["task_id"], str), answer
    code, message, task = finished(began["task_id"])
    told = {"code": code, "message": message, "began": began["status"], "ended": task["status"]}
    told["same task"] = task["task_id"] == began["task_id"]
    if task["status"] == "SUCCESS":
        # The link of a finished video needs no key.
        with urllib.request.urlopen(task["output"]["video_url"], timeout=60) as file:
            told["type"], told["is mp4"] = file.headers["Content-Type"], file.read()[4:8] == b"ftyp"
        told["credits"] = task["credits_consumed"]
    else:
        told["says why"] = "the lake was closed" in task["error_message"]
    tell(what, told)


def refusal(what, answer):
    status, body = answer
    error = body["error"]
    told = {"status": status, "code": error["code"], "type": error["type"], "says why": bool(error["message"])}
    tell(what, told)


def tell(what, told):
    print(json.dumps({what: told}), flush=True)


video("a video")
video("with fields that nobody documented", prompts="?", durations=7, seed=1)
video("with a callback", callback_url="http://127.0.0.1:9/hook")
video("of another model", model="wan-2-6", duration=None)
video("that fails", prompt="[[fail:the lake was closed]] a boat")
refusal("too long", submit(duration=99))
refusal("without a prompt", submit(prompt=""))
refusal("of no model", submit(model="no-such-model"))
refusal("an unknown task", call("GET", "/api/v1/tasks/n50_nobody"))
refusal("a wrong key", submit(key=""))
refusal("a wrong key for a task", call("GET", "/api/v1/tasks/n50_nobody", key=""))
