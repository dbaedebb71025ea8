//! One event after the other to the app. An event is done when the app took it, and not before.

use backon::BackoffBuilder as _;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::state::{Position, State};
use crate::cli::{
    client::Client,
    exit::{Exit, Failure},
    feed::{self, Entry, Filter, Told},
    output::Output,
    time,
    webhook::{self, App, Taken},
};

const PAGE: usize = 250;
/// What waits is not counted to the end if that takes more questions.
const QUESTIONS: usize = 20;

pub(super) struct Forwarder<'a> {
    client: &'a Client,
    app: App,
    state: State,
    filter: Filter,
    output: &'a Output,
    /// The last of the events that were waiting when they were counted.
    goal: Option<u64>,
    forwarded: usize,
}

/// Events that wait to be forwarded.
struct Waiting {
    count: usize,
    /// There are more than were counted.
    more: bool,
    last: Option<u64>,
}

impl<'a> Forwarder<'a> {
    pub(super) fn new(
        client: &'a Client,
        app: App,
        state: State,
        filter: Filter,
        output: &'a Output,
    ) -> Self {
        Self { client, app, state, filter, output, goal: None, forwarded: 0 }
    }

    /// Forwards for as long as it is let.
    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        self.take_stock().await?;
        let mut feed = feed::follow(self.client, self.filter.clone(), self.after(), self.output);
        while let Some(told) = feed.next().await {
            match told? {
                Told::Event(entry, _) => self.forward(&entry).await?,
                Told::Back => self.take_stock().await?,
                Told::Reset { oldest } => self.output.note(&format!(
                    "the place to begin at is not in the server's log (any more): going on with event {oldest}"
                )),
            }
            if self.output.is_closed() {
                break;
            }
        }
        Ok(())
    }

    /// The last words, at Ctrl-C.
    pub(super) async fn farewell(&self) -> Result<(), Failure> {
        let missed = match self.waiting().await {
            Ok(Waiting { count: 0, more: false, .. }) => "0 events missed".to_owned(),
            Ok(waiting) => format!("{} wait, and the same command goes on with them", waiting.describe()),
            Err(_) => "what happens meanwhile waits for the same command".to_owned(),
        };
        self.output.note(&format!("{} forwarded; {missed}", events(self.forwarded)));
        Ok(())
    }

    fn after(&self) -> u64 {
        self.state.position().map_or(0, |position| position.seq)
    }

    /// Says what came while nobody forwarded.
    async fn take_stock(&mut self) -> Result<(), Failure> {
        let waiting = self.waiting().await?;
        let consequence = if waiting.count > 0 { ", forwarding them" } else { "" };
        self.output.note(&format!("{} missed while away{consequence}", waiting.describe()));
        self.goal = waiting.last;
        Ok(())
    }

    async fn waiting(&self) -> Result<Waiting, Failure> {
        let mut waiting = Waiting { count: 0, more: false, last: None };
        let mut after = self.after();
        for _ in 0..QUESTIONS {
            let page = feed::look(self.client, &self.filter, after, PAGE).await?;
            if let Some(last) = page.data.last() {
                waiting.last = Some(Entry::read(last)?.seq);
            }
            waiting.count += page.data.len();
            let next = page.next_cursor.and_then(|cursor| cursor.parse().ok());
            waiting.more = next.is_some();
            let Some(next) = next else { break };
            after = next;
        }
        Ok(waiting)
    }

    /// Forwards an event, however long it takes, and remembers that it is done.
    async fn forward(&mut self, entry: &Entry) -> Result<(), Failure> {
        let body = webhook::body(&entry.kind, &entry.time, &self.data(entry).await?);
        let mut pauses = feed::patience().build();
        let (mut attempts, mut last) = (1, String::new());
        let taken = loop {
            let why = match self.app.send(&entry.id, &body).await {
                Ok(taken) => break taken,
                Err(why) => why,
            };
            if why != last {
                self.output.note(&format!(
                    "{} {}: {why}; it is sent again until the app takes it",
                    entry.kind, entry.id
                ));
                last = why;
            }
            attempts += 1;
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        };
        if attempts > 1 {
            self.take_stock().await?;
        }
        self.state.advance(Position { seq: entry.seq, event_id: Some(entry.id.clone()) })?;
        self.forwarded += 1;
        self.say(entry, taken, attempts)?;
        self.at_goal(entry.seq).await
    }

    /// What the event is about: the job as it is now.
    async fn data(&self, entry: &Entry) -> Result<Value, Failure> {
        let Some(id) = &entry.job_id else { return Ok(entry.data.clone()) };
        match self.client.get_patiently(&["v1", "jobs", id]).await {
            Ok(reply) => Ok(json!({ "job": reply.document })),
            // Forgotten by the server meanwhile; the event stands.
            Err(failure) if failure.exit == Exit::NotFound => Ok(json!({ "job": { "id": id } })),
            Err(failure) => Err(failure),
        }
    }

    fn say(&self, entry: &Entry, Taken { status, took }: Taken, attempts: u32) -> Result<(), Failure> {
        let now = time::rfc3339(Timestamp::now());
        if self.output.is_json() {
            return self.output.record(&json!({
                "time": now, "seq": entry.seq, "id": entry.id, "type": entry.kind, "job_id": entry.job_id,
                "status": status.as_u16(), "ms": took.as_millis() as u64, "attempts": attempts,
            }));
        }
        let job = entry.job_id.clone().unwrap_or_default();
        let cells =
            [now, status.as_u16().to_string(), entry.kind.clone(), job, format!("{} ms", took.as_millis())];
        self.output.row_with([24, 3, 13, 36, 6], cells, "")
    }

    /// Says that all is forwarded, where events were waiting.
    async fn at_goal(&mut self, seq: u64) -> Result<(), Failure> {
        if self.goal.is_none_or(|goal| seq < goal) {
            return Ok(());
        }
        let waiting = self.waiting().await?;
        self.goal = waiting.last;
        if waiting.count == 0 && !waiting.more {
            self.output.note("all forwarded: 0 events missed");
        }
        Ok(())
    }
}

impl Waiting {
    fn describe(&self) -> String {
        if self.more { format!("{} or more", events(self.count)) } else { events(self.count) }
    }
}

fn events(count: usize) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}
