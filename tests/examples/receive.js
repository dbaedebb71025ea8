// Takes reelhook's events and verifies who sent them: `WEBHOOK_SECRET=whsec_… PORT=3000 node receive.js`.
const { createServer } = require("node:http");
const { Webhook } = require("standardwebhooks");

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    const event = webhook.verify(Buffer.concat(chunks).toString(), request.headers);
    // Events come at least once: a webhook-id that was seen before is a repeat. A ping is about no job.
    if (event.data.job) console.log(event.type, event.data.job.id);
    response.writeHead(204).end();
  } catch {
    response.writeHead(401).end("the signature does not match");
  }
}).listen(process.env.PORT, "127.0.0.1");
