"""An app that is told by reelhook when a video is stored: it verifies the signature and prints what it learned.

Standard Webhooks 1.0.0: the signature is an HMAC-SHA256 of `id.timestamp.body`, in base64, and a header may carry several.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300  # an older message may be a replay
MAX_BODY = 64 * 1024


def read_secret(text):
    """The key in `whsec_` + base64."""
    return base64.b64decode(text.strip().removeprefix("whsec_"))


def verify(secret, headers, body, now):
    """Whether `body` was signed with `secret`, and lately."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split()
    # Each is compared, whichever fits: the time it takes tells nothing.
    return any([hmac.compare_digest(expected, signature) for signature in given])


def told(event):
    """What an event says; that of `reelhook doctor`, a ping, is about no job."""
    job = event["data"].get("job")
    return f"{event['type']} {job['id']} {[file['name'] for file in job['files']]}" if job else event["type"]


class Hooks(BaseHTTPRequestHandler):
    secret = b""
    seen = set()

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(length)
        if not verify(self.secret, self.headers, body, time.time()):
            return self.answer(401)
        # A message may come twice; its id is the same then. An app of yours keeps the ids with its data.
        if self.headers["webhook-id"] not in self.seen:
            self.seen.add(self.headers["webhook-id"])
            print(told(json.loads(body)), flush=True)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        """What is worth saying is printed above."""


if __name__ == "__main__":
    with open(os.environ["WEBHOOK_SECRET_FILE"], encoding="ascii") as file:
        Hooks.secret = read_secret(file.read())
    ThreadingHTTPServer(("", 3000), Hooks).serve_forever()
