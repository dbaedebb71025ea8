"""Takes reelhook's events and verifies who sent them: `WEBHOOK_SECRET=whsec_… flask --app receive run`."""
import os

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["WEBHOOK_SECRET"])


@app.post("/hooks/video")
def video():
    try:
        event = webhook.verify(request.get_data(), request.headers)
    except WebhookVerificationError:
        return "the signature does not match", 401
    # Events come at least once: a webhook-id that was seen before is a repeat. A ping is about no job.
    if job := event["data"].get("job"):
        print(event["type"], job["id"], flush=True)
    return "", 204
