//! What is told of a file of jobs: a row or a record for each as it is done, and one verdict.

use serde_json::{Value, json};

use super::{
    lines::Line,
    send::{Created, Sent},
};
use crate::cli::{
    exit::{Exit, Failure},
    job::{Job, Snapshot},
    output::Output,
    progress::Progress,
};

/// From the mildest on: the exit code of a file is the worst of its lines.
const FROM_MILD_TO_BAD: [Exit; 12] = [
    Exit::StillRunning,
    Exit::Held,
    Exit::JobFailed,
    Exit::Download,
    Exit::Usage,
    Exit::Conflict,
    Exit::NotFound,
    Exit::Budget,
    Exit::Auth,
    Exit::StoreLocked,
    Exit::Failure,
    Exit::Unreachable,
];

pub(super) struct Report<'a> {
    pub(super) output: &'a Output,
    /// None while nothing may move on the terminal.
    progress: Option<Progress<'a>>,
    total: usize,
    done: usize,
    bad: usize,
    worst: Option<Exit>,
    created: usize,
    replayed: usize,
    /// Of what was created now.
    credits: u64,
}

impl<'a> Report<'a> {
    pub(super) fn new(output: &'a Output, total: usize) -> Self {
        let (progress, worst) = (None, None);
        let mut report =
            Self { output, progress, total, done: 0, bad: 0, worst, created: 0, replayed: 0, credits: 0 };
        report.show();
        report
    }

    /// Shows how many are done.
    fn show(&mut self) -> &Progress<'a> {
        let progress = self.progress.get_or_insert_with(|| Progress::new(self.output));
        progress.count("jobs", self.done as u64, self.total as u64);
        progress
    }

    /// Leaves the terminal to somebody else until the next line is done.
    pub(super) fn hide(&mut self) {
        self.progress = None;
    }

    /// A line whose job is not waited for.
    pub(super) fn sent(&mut self, Sent { line, result }: Sent) -> Result<(), Failure> {
        match result {
            Ok(created) => {
                self.counted(&created);
                self.done(&line, &created.snapshot, created.replayed, Ok(()))
            }
            Err(failure) => self.refused(&line, &failure),
        }
    }

    /// The job of a line is there.
    pub(super) fn counted(&mut self, created: &Created) {
        if created.replayed {
            self.replayed += 1;
        } else {
            self.created += 1;
            self.credits += created.snapshot.job.credits().unwrap_or(0);
        }
    }

    /// A line is done with, well or not.
    pub(super) fn done(
        &mut self,
        line: &Line,
        snapshot: &Snapshot,
        replayed: bool,
        outcome: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Job { id, status, .. } = &snapshot.job;
        let document = json!({
            "line": line.number, "key": line.key, "replayed": replayed, "job": snapshot.document,
            "problem": outcome.as_ref().err().map(Failure::document),
        });
        let cells = [line.number.to_string(), status.as_str().to_owned(), id.clone()];
        self.tell(line, &document, cells, outcome.err().as_ref())
    }

    /// A line became no job.
    pub(super) fn refused(&mut self, line: &Line, failure: &Failure) -> Result<(), Failure> {
        let document = json!({
            "line": line.number, "key": line.key, "replayed": false, "job": Value::Null,
            "problem": failure.document(),
        });
        self.tell(
            line,
            &document,
            [line.number.to_string(), "refused".to_owned(), String::new()],
            Some(failure),
        )
    }

    fn tell(
        &mut self,
        line: &Line,
        document: &Value,
        cells: [String; 3],
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        if let Some(failure) = failure {
            self.bad += 1;
            self.worst = worse(self.worst, failure.exit);
            self.show().note(&format!("line {}: {failure}", line.number));
        }
        self.done += 1;
        let output = self.output;
        self.show().aside(|| match output.is_json() {
            true => output.record(document),
            false => output.row_with([5, 9, 36], cells, ""),
        })
    }

    /// How it all ended: the worst of all, also of what was not sent.
    pub(super) fn verdict(self, stopped: Option<(Exit, String)>) -> Result<(), Failure> {
        let Self { output, progress, total, done, bad, worst, created, replayed, credits } = self;
        drop(progress);
        output.note(&format!("{created} created for {credits} credits, {replayed} were there already"));
        let worst = stopped.as_ref().map_or(worst, |(exit, _)| worse(worst, *exit));
        let Some(worst) = worst else { return Ok(()) };
        let mut detail = format!("{bad} of {total} lines did not end well");
        if let Some((_, why)) = stopped {
            let left = total - done;
            detail = format!(
                "{why}: {detail} and {left} were not sent; the same command goes on and pays for no line twice"
            );
        }
        Err(Failure::new(worst, detail))
    }
}

fn worse(one: Option<Exit>, other: Exit) -> Option<Exit> {
    let rank = |exit: &Exit| FROM_MILD_TO_BAD.iter().position(|known| known == exit);
    one.into_iter().chain([other]).max_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_code_stands_whatever_came_first() {
        assert_eq!(worse(None, Exit::Held), Some(Exit::Held));
        assert_eq!(worse(Some(Exit::Held), Exit::JobFailed), Some(Exit::JobFailed));
        assert_eq!(worse(Some(Exit::Unreachable), Exit::JobFailed), Some(Exit::Unreachable));
    }
}
