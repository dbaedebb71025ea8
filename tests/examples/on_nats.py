"""Works on every finished video, once each, as NATS tells of them: `python on_nats.py nats://127.0.0.1:4222`."""
import asyncio
import json
import sys

import nats


async def main(server):
    stream = (await nats.connect(server)).jetstream()
    await stream.add_stream(name="VIDEOS", subjects=["reelhook.>"])
    # Durable: what comes while this is not running waits in the stream.
    events = await stream.pull_subscribe("reelhook.job.succeeded", durable="pipeline")
    print("waiting", flush=True)
    while True:
        try:
            [event] = await events.fetch(1, timeout=60)
        except nats.errors.TimeoutError:
            continue
        job = json.loads(event.data)["data"]["job"]
        print(job["id"], flush=True)
        # After the work: what was not acknowledged comes again.
        await event.ack()


asyncio.run(main(sys.argv[1]))
