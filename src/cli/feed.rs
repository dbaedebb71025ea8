//! The server's event log: a page of it, or live. A connection that breaks is taken up again after the last event that
//! came, so nothing is passed over.

use std::{pin::Pin, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Method;
use russe::{Event, Message, reqwest_0_13::ReqwestExt as _};
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::Client,
    exit::{Exit, Failure},
    output::Output,
    page::Page,
};

const EVENTS: [&str; 2] = ["v1", "events"];
/// Newer than any event: whoever asks for what came after it is told where the log ends.
const BEYOND: u64 = i64::MAX as u64;

/// Which events are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filter {
    /// Only events of these types, such as job.succeeded; several with commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// Only events of this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only events of jobs with this tag
    #[arg(long)]
    tag: Option<String>,
}

impl Filter {
    /// Only events of these types.
    pub(crate) fn of_types(types: &[String]) -> Self {
        Self { types: types.to_vec(), ..Self::default() }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let types = (!self.types.is_empty()).then(|| self.types.join(","));
        let fields = [("types", types), ("job", self.job.clone()), ("tag", self.tag.clone())];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// An entry of the log, as far as it is read here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    /// Its place in the log.
    pub(crate) seq: u64,
    /// The same for every reader.
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// RFC 3339.
    pub(crate) time: String,
    /// None for what is about no job.
    pub(crate) job_id: Option<String>,
    #[serde(default)]
    pub(crate) data: Value,
}

/// What the live log says.
#[derive(Debug)]
pub(crate) enum Told {
    /// The next event: what is read of it, and all that the server said.
    Event(Entry, Value),
    /// The place that was asked for is not in the log: it goes on from the oldest event that there is.
    Reset { oldest: u64 },
    /// The connection was broken and is there again.
    Back,
}

/// What is read of a page, and all that the server said of its entries.
pub(crate) type Entries = Page<Value>;

/// One look at the log after an event. The server looks at so many events at a time: a page can be short, or empty, and
/// not the last.
pub(crate) async fn look(
    client: &Client,
    filter: &Filter,
    after: u64,
    limit: usize,
) -> Result<Entries, Failure> {
    let place = [("after", after.to_string()), ("limit", limit.to_string())];
    let request = client.request(Method::GET, &EVENTS).query(&filter.query()).query(&place);
    Page::read(&client.json(request).await?.document)
}

/// So many events after an event, if there are as many.
pub(crate) async fn page(
    client: &Client,
    filter: &Filter,
    mut after: u64,
    limit: usize,
) -> Result<Entries, Failure> {
    let mut found = Page { data: Vec::new(), next_cursor: None };
    loop {
        let page = look(client, filter, after, limit - found.data.len()).await?;
        found.data.extend(page.data);
        found.next_cursor = page.next_cursor;
        match found.next_cursor.as_ref().and_then(|cursor| cursor.parse().ok()) {
            Some(read_to) if found.data.len() < limit => after = read_to,
            _ => return Ok(found),
        }
    }
}

impl Entry {
    /// Reads an entry.
    pub(crate) fn read(document: &Value) -> Result<Self, Failure> {
        Self::deserialize(document).map_err(|error| {
            Failure::new(Exit::Failure, format!("an event is not one that this version reads: {error}"))
        })
    }
}

/// The number of the newest event.
pub(crate) async fn head(client: &Client) -> Result<u64, Failure> {
    let mut messages = connect(client, &Filter::default(), BEYOND).await?;
    while let Some(Ok(event)) = messages.next().await {
        let Event::Message(message) = event else { continue };
        if let Some(bounds) = bounds(&message) {
            return Ok(bounds.newest);
        }
        break;
    }
    let detail = "the server does not say where its event log ends, in a way that this version reads";
    Err(Failure::new(Exit::Failure, detail))
}

/// Everything after an event, for as long as it is read. That the connection is broken is told on stderr.
///
/// # Errors
/// The first connection fails, or the server refuses a later one.
pub(crate) fn follow<'a>(
    client: &'a Client,
    filter: Filter,
    after: u64,
    output: &'a Output,
) -> Pin<Box<impl Stream<Item = Result<Told, Failure>> + 'a>> {
    let reader = Reader { client, output, filter, after, messages: None, pauses: None };
    Box::pin(stream::try_unfold(reader, |mut reader| async move {
        let told = reader.next().await?;
        Ok(Some((told, reader)))
    }))
}

type Messages = stream::BoxStream<'static, russe::Result<Event>>;

struct Reader<'a> {
    client: &'a Client,
    output: &'a Output,
    filter: Filter,
    /// The last event that came.
    after: u64,
    messages: Option<Messages>,
    /// Between attempts to connect again; none before the first connection, and begun anew by each message.
    pauses: Option<ExponentialBackoff>,
}

impl Reader<'_> {
    async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            let Some(messages) = &mut self.messages else {
                if self.connect().await? {
                    return Ok(Told::Back);
                }
                continue;
            };
            match messages.next().await {
                Some(Ok(Event::Message(message))) => {
                    self.pauses = Some(patience().build());
                    if let Some(told) = self.read(&message)? {
                        return Ok(told);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    let after = self.after;
                    self.output
                        .note(&format!("the server ended the stream, connecting again after event {after}"));
                    self.messages = None;
                }
            }
        }
    }

    /// Connects, for as long as it takes if it was connected before. Whether it was.
    async fn connect(&mut self) -> Result<bool, Failure> {
        let Some(mut pauses) = self.pauses.take() else {
            self.messages = Some(connect(self.client, &self.filter, self.after).await?);
            self.pauses = Some(patience().build());
            return Ok(false);
        };
        loop {
            tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
            match connect(self.client, &self.filter, self.after).await {
                Ok(messages) => {
                    (self.messages, self.pauses) = (Some(messages), Some(pauses));
                    return Ok(true);
                }
                Err(failure) if failure.exit == Exit::Unreachable || failure.retry_after.is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// What a message says; nothing if it is live only, and not of the log.
    fn read(&mut self, message: &Message) -> Result<Option<Told>, Failure> {
        if let Some(Bounds { oldest, .. }) = bounds(message) {
            self.after = oldest.saturating_sub(1);
            return Ok(Some(Told::Reset { oldest }));
        }
        if message.id.is_none() || message.data.is_empty() {
            return Ok(None);
        }
        let document = serde_json::from_str(&message.data).unwrap_or_default();
        let entry = Entry::read(&document)?;
        self.after = entry.seq;
        Ok(Some(Told::Event(entry, document)))
    }
}

async fn connect(client: &Client, filter: &Filter, after: u64) -> Result<Messages, Failure> {
    let request = client.request(Method::GET, &EVENTS).query(&filter.query());
    let response = client.stream(request.header("last-event-id", after)).await?;
    Ok(response.sse_stream())
}

/// The ends of the log.
#[derive(Deserialize)]
struct Bounds {
    oldest: u64,
    newest: u64,
}

fn bounds(message: &Message) -> Option<Bounds> {
    let reset = message.event.as_deref() == Some("reset");
    reset.then(|| serde_json::from_str(&message.data).ok()).flatten()
}

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// For what is waited for until it is there.
pub(crate) fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
}
