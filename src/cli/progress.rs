//! How far something is: a bar on a terminal, one plain line per change otherwise. Always on stderr.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    job::Job,
    output::{self, Output, printable},
};

const WAITING: &str = "{spinner} {msg} {elapsed}";
const PERCENT: &str = "{msg} [{bar:30}] {percent}% {elapsed}";
const COUNT: &str = "{msg} [{bar:30}] {pos}/{len} {elapsed}";
const BYTES: &str =
    "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}";

/// Shows the progress of one job or one file.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    /// What was shown last, so that a line is a change; on a terminal, the style of the bar.
    last: String,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { output, bar, last: String::new() }
    }

    /// Whether somebody sees a bar move.
    pub(crate) fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows where a job stands.
    pub(crate) fn job(&mut self, job: &Job) {
        let what = format!("{} {}", job.id, printable(&job.phase));
        match (job.phase.as_str(), job.progress.bytes_total, job.progress.percent) {
            ("fetching", Some(total), _) => {
                self.show(BYTES, &what, job.progress.bytes_done.unwrap_or(0), total);
            }
            ("fetching", None, _) | (_, _, None) => self.show(WAITING, &what, 0, 0),
            (_, _, Some(percent)) => self.show(PERCENT, &what, percent.clamp(0.0, 100.0) as u64, 100),
        }
    }

    /// Shows how much of a file is here. Without a terminal only its begin is told: bytes are no change of state.
    pub(crate) fn bytes(&mut self, name: &str, done: u64, total: u64) {
        if self.bar.is_some() {
            self.show(BYTES, &printable(name), done, total);
        } else {
            self.plain(format!("{} {}", printable(name), output::bytes(total)));
        }
    }

    /// Shows how many of several are done. Without a terminal nothing is said: each is told when it is done.
    pub(crate) fn count(&mut self, what: &str, done: u64, total: u64) {
        if self.bar.is_some() {
            self.show(COUNT, what, done, total);
        }
    }

    fn show(&mut self, style: &'static str, what: &str, done: u64, total: u64) {
        let Some(bar) = &self.bar else {
            let share = (total > 0).then(|| format!(" {}%", done.min(total) * 100 / total));
            return self.plain(format!("{what}{}", share.unwrap_or_default()));
        };
        if self.last != style {
            // A template of ours that does not parse would be a bar without a style, and no reason to stop.
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.reset_eta();
            style.clone_into(&mut self.last);
        }
        bar.set_message(what.to_owned());
        bar.set_length(total);
        bar.set_position(done);
    }

    fn plain(&mut self, line: String) {
        if self.last != line {
            self.output.note(&line);
            self.last = line;
        }
    }

    /// One line above the bar.
    pub(crate) fn note(&self, line: &str) {
        self.aside(|| self.output.note(line));
    }

    /// Whatever is written, above the bar.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress<'_> {
    /// The bar is no result: what comes after it starts on a clean line.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
