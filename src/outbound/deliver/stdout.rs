//! The server's standard output, one event a line.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Message, Outcome, Way, span};
use crate::lifecycle::Answer;

type Line = (Bytes, oneshot::Sender<io::Result<()>>);

/// Lines go through one thread, which alone waits when nobody reads: neither the runtime nor its end does.
pub(super) struct Stdout {
    lines: mpsc::Sender<Line>,
    timeout: Duration,
}

impl Stdout {
    /// Writes to `output`, which is the standard output but in tests.
    pub(super) fn new(mut output: impl Write + Send + 'static, timeout: Duration) -> Self {
        let (lines, mut to_write) = mpsc::channel::<Line>(1);
        thread::spawn(move || {
            while let Some((line, written)) = to_write.blocking_recv() {
                // Whoever stopped waiting will ask again.
                if !written.is_closed() {
                    let result = output.write_all(&line).and_then(|()| output.flush());
                    drop(written.send(result));
                }
            }
        });
        Self { lines, timeout }
    }

    async fn write(&self, line: Bytes) -> io::Result<()> {
        let (written, outcome) = oneshot::channel();
        self.lines.send((line, written)).await.map_err(io::Error::other)?;
        outcome.await.map_err(io::Error::other)?
    }
}

#[async_trait]
impl Way for Stdout {
    async fn hand_over(&self, message: &Message) -> Outcome {
        match tokio::time::timeout(self.timeout, self.write(line(&message.body))).await {
            Ok(Ok(())) => Outcome::new(Answer::Delivered, "written"),
            Ok(Err(error)) => Outcome::failed(format!("cannot write to the standard output: {error}")),
            Err(_) => {
                let waited = span(self.timeout);
                Outcome::failed(format!(
                    "nobody read the standard output for {waited}; the line may still be written"
                ))
            }
        }
    }
}

/// The document on one line: within JSON a line break is never more than white space.
fn line(body: &Bytes) -> Bytes {
    let unbroken = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte });
    unbroken.chain([b'\n']).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        lifecycle::{DeliveryId, EventId, EventKind, Millis},
        outbound::deliver::Outcome,
    };

    fn message(body: &'static str) -> Message {
        Message {
            event_id: EventId::new(Millis(1), &[1; 10]),
            kind: EventKind::Succeeded,
            time: Millis(1),
            job_id: None,
            delivery_id: DeliveryId::new(Millis(1), &[1; 10]),
            attempt: 1,
            trace: None,
            body: body.into(),
        }
    }

    /// Remembers what was written in one go.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_event_is_one_line_written_in_one_go() {
        let writes = Writes::default();
        let stdout = Stdout::new(writes.clone(), Duration::from_secs(30));
        let (one, two) = (message("{\r\n \"a\": 1\n}"), message("{}"));
        let (first, second) = tokio::join!(stdout.hand_over(&one), stdout.hand_over(&two));
        assert_eq!([first.answer, second.answer], [Answer::Delivered; 2]);
        assert_eq!(*writes.0.lock().unwrap(), ["{   \"a\": 1 }\n", "{}\n"]);
    }

    /// A pipe that nobody reads, until it breaks.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_stalls_or_goes_away_fails_the_try_and_holds_up_nothing_else() {
        let (break_pipe, stuck) = std::sync::mpsc::channel();
        let stdout = Stdout::new(Stuck(stuck), Duration::from_millis(50));
        let stalled: Outcome = stdout.hand_over(&message("{}")).await;
        assert_eq!(stalled.answer, Answer::Failed { retry_after: None });
        assert!(stalled.detail.starts_with("nobody read the standard output for 50ms"), "{}", stalled.detail);
        drop(break_pipe);
        let stdout = Stdout { timeout: Duration::from_secs(30), ..stdout };
        let broken = stdout.hand_over(&message("{}")).await;
        assert!(broken.detail.contains("broken pipe"), "{}", broken.detail);
    }
}
