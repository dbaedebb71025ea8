//! What a file of jobs would cost, before anything of it is sent.

use std::cell::RefCell;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    AT_ONCE, ESTIMATE,
    lines::{Broken, Line},
};
use crate::cli::{
    client::Client,
    exit::{Exit, Failure},
    output::Output,
    spend::Estimate,
};

/// A line with its price.
pub(super) struct Priced {
    pub(super) line: Line,
    pub(super) estimate: Estimate,
    document: Value,
}

impl Priced {
    pub(super) fn record(&self) -> Value {
        json!({ "line": self.line.number, "key": self.line.key, "estimate": self.document })
    }
}

/// Has every line checked and priced; a line that the server would refuse is broken.
pub(super) async fn price(
    lines: Vec<Line>,
    client: &Client,
    output: &Output,
) -> Result<(Vec<Priced>, Vec<Broken>), Failure> {
    let queue = Queue::new(output);
    let asked = stream::iter(lines).map(|line| {
        let queue = &queue;
        async move {
            let answer = queue.patiently(|| client.post(&ESTIMATE, &line.body)).await;
            (line, answer)
        }
    });
    let mut asked = asked.buffered(AT_ONCE);
    let (mut priced, mut broken) = (Vec::new(), Vec::new());
    while let Some((line, answer)) = asked.next().await {
        match answer {
            Ok(reply) => {
                let estimate = Estimate::read(&reply.document)?;
                for notice in
                    reply.document["notices"].as_array().into_iter().flatten().filter_map(Value::as_str)
                {
                    output.note(&format!("line {}: {notice}", line.number));
                }
                priced.push(Priced { line, estimate, document: reply.document });
            }
            Err(failure) if failure.exit == Exit::Usage => {
                broken.push(Broken { number: line.number, why: failure.to_string() });
            }
            Err(failure) => return Err(failure.and("nothing was sent and nothing was spent")),
        }
    }
    Ok((priced, broken))
}

/// Waits as long as a server that is full asks to, and says so once.
pub(super) struct Queue<'a> {
    output: &'a Output,
    last: RefCell<String>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, last: RefCell::default() }
    }

    pub(super) async fn patiently<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            let failure = match attempt().await {
                Err(failure) if failure.retry_after.is_some() => failure,
                other => return other,
            };
            let pause = failure.retry_after.unwrap_or_default();
            let line = format!("waiting, as the server asks: {failure}");
            if *self.last.borrow() != line {
                self.output.note(&line);
                *self.last.borrow_mut() = line;
            }
            tokio::time::sleep(pause).await;
        }
    }
}
