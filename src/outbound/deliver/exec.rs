//! A program that is run for each event: no shell, no environment but ours, the event on its standard input.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, Command},
};

use super::{DETAIL_CHARS, Message, Outcome, Way, span};
use crate::lifecycle::Answer;

/// `EX_TEMPFAIL` of sysexits.h.
const AGAIN: i32 = 75;
/// Never again, for this event.
const GIVE_UP: i32 = 100;
/// What may still come from the standard error after the program has ended; what it left behind may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Bytes of the standard error that are kept: a detail's worth of the longest characters.
const KEPT: usize = DETAIL_CHARS * 4;

/// A program and its arguments.
pub(super) struct Exec {
    command: Vec<String>,
    timeout: Duration,
}

impl Exec {
    pub(super) fn new(command: Vec<String>, timeout: Duration) -> Self {
        Self { command, timeout }
    }

    fn start(&self, message: &Message) -> std::io::Result<Child> {
        let (program, arguments) = self.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some(job) = message.job_id {
            command.env("REELHOOK_JOB_ID", job.to_string());
        }
        if let Some(trace) = &message.trace {
            command.env("REELHOOK_TRACEPARENT", trace);
        }
        command
            .env("REELHOOK_EVENT_ID", message.event_id.to_string())
            .env("REELHOOK_EVENT_TYPE", message.kind.name())
            .env("REELHOOK_DELIVERY_ID", message.delivery_id.to_string())
            .env("REELHOOK_ATTEMPT", message.attempt.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }
}

#[async_trait]
impl Way for Exec {
    async fn hand_over(&self, message: &Message) -> Outcome {
        let mut child = match self.start(message) {
            Ok(child) => child,
            Err(error) => {
                let program = self.command.first().map(String::as_str).unwrap_or_default();
                return Outcome::failed(format!("`{program}` cannot be started: {error}"));
            }
        };
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let words = Tail::default();
        let feeding = child.stdin.take().map(|stdin| tokio::spawn(feed(stdin, message.body.clone())));
        let listening = child.stderr.take().map(|stderr| tokio::spawn(listen(stderr, words.clone())));
        let ended = tokio::time::timeout(self.timeout, child.wait()).await;
        if ended.is_ok() {
            // From here on its number may be another's.
            group.0 = None;
        } else {
            drop(group);
        }
        if let Some(mut listening) = listening {
            let heard_out = tokio::time::timeout(LAST_WORDS, &mut listening).await;
            if heard_out.is_err() {
                listening.abort();
            }
        }
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        match ended {
            Ok(Ok(status)) => judge(status, &words.text()),
            Ok(Err(error)) => Outcome::failed(format!("nobody knows how the program ended: {error}")),
            Err(_) => {
                let ran = span(self.timeout);
                Outcome::failed(with_words(&format!("ran longer than {ran} and was killed"), &words.text()))
            }
        }
    }
}

/// A program and all that it has started. Dropped, by a time-out or with the try, it is killed as a whole.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended just now.
            _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn judge(status: ExitStatus, words: &str) -> Outcome {
    let (answer, text) = match (status.code(), status.signal()) {
        (Some(0), _) => (Answer::Delivered, "exit 0".to_owned()),
        (Some(AGAIN), _) => (Answer::Failed { retry_after: None }, format!("exit {AGAIN}, so again later")),
        (Some(GIVE_UP), _) => (Answer::Refused, format!("exit {GIVE_UP}, so never again")),
        (Some(code), _) => (Answer::Failed { retry_after: None }, format!("exit {code}")),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            (Answer::Failed { retry_after: None }, format!("ended by signal {signal}"))
        }
    };
    Outcome { answer, code: status.code(), detail: with_words(&text, words) }
}

/// The end of what the program said, as much as a detail has room for.
fn with_words(text: &str, words: &str) -> String {
    let words = words.trim();
    let room = DETAIL_CHARS - text.chars().count() - 2;
    let skipped = words.chars().count().saturating_sub(room);
    let last: String = words.chars().skip(skipped).collect();
    if last.is_empty() { text.to_owned() } else { format!("{text}: {last}") }
}

/// A program that does not read its input is none the worse for it.
async fn feed(mut stdin: ChildStdin, body: Bytes) {
    drop(stdin.write_all(&body).await);
}

async fn listen(mut stderr: ChildStderr, words: Tail) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        words.push(&buffer[..read]);
    }
}

/// The last bytes of a stream.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_stream_without_end_no_more_is_kept_than_a_detail_has_room_for() {
        let tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let kept = tail.text();
        assert!(kept.len() <= KEPT && kept.ends_with("line 9999\n"), "{}", kept.len());
        let told = with_words("exit 1", &kept);
        assert!(told.starts_with("exit 1: ") && told.ends_with("line 9999"), "{told}");
        assert_eq!(told.chars().count(), DETAIL_CHARS);
    }
}
