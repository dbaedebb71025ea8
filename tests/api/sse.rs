//! Reading streams of server-sent events.

use futures_util::{StreamExt as _, stream::BoxStream};
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::support::{PATIENCE, World};

/// A message of a stream: name, id, data.
#[derive(Debug, PartialEq)]
pub(super) struct Message(pub(super) String, pub(super) Option<String>, pub(super) Value);

/// Reads a stream message by message.
pub(super) struct Stream {
    body: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
    /// The last place that the server named, as a browser would keep it.
    pub(super) place: Option<u64>,
}

impl Stream {
    pub(super) async fn open(request: RequestBuilder) -> Self {
        let answer = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { body: answer.bytes_stream().boxed(), text: String::new(), place: None }
    }

    /// Opens the stream of this path, behind the event of this number.
    pub(super) async fn after(world: &World, path: &str, place: u64) -> Self {
        Self::open(world.http.get(world.url(path)).header("last-event-id", place.to_string())).await
    }

    /// The next message; none at the end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.map(str::to_owned)
            };
            let id = field("id");
            self.place = id.as_ref().map_or(self.place, |id| Some(id.parse().unwrap()));
            if let Some(data) = field("data") {
                return Some(Message(field("event").unwrap(), id, serde_json::from_str(&data).unwrap()));
            }
        }
    }

    /// The next lines up to an empty one.
    pub(super) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                return Some(self.text.drain(..end + 2).collect());
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.body.next()).await.expect("the stream is silent")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The numbers of the next events.
    pub(super) async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::with_capacity(count);
        while seqs.len() < count {
            let Message(_, id, data) = self.next().await.expect("more events");
            if let Some(id) = id {
                assert_eq!(data["seq"].to_string(), id);
                seqs.push(id.parse().unwrap());
            }
        }
        seqs
    }
}
