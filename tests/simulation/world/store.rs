//! The store: one record a job, written by compare-and-swap, each task one job's.

use reelhook::lifecycle::{Change, Event, Note, RetryMode, TaskId};

use super::{MOST_JOBS, Record, World};
use crate::{faults::name, support};

impl World<'_> {
    /// Loads, steps, judges, writes; true when it changed anything.
    pub(super) fn apply(&mut self, index: usize, event: &Event) -> Result<bool, String> {
        let was = &self.records[index].job;
        let Some(change) = self.fault.step(was, event, self.now, self.policy) else { return Ok(false) };
        support::judge(was, event, self.now, self.policy, Some(&change))?;
        if self.trace {
            println!(
                "  {} {index}: {} → {}: {event:?}",
                self.now.0,
                was.phase_name(),
                change.job.phase_name()
            );
        }
        *self.effects.entry((was.phase_name(), name(event))).or_default() += 1;
        let named = change.job.task.as_ref().filter(|task| was.task.as_ref().is_none_or(|t| t.id != task.id));
        let taken = named.map(|task| task.id.clone()).filter(|task| self.is_taken(index, task));
        match (taken, event) {
            (None, _) => {
                self.write(index, change)?;
                Ok(true)
            }
            (Some(task), Event::Callback(note)) => Ok(self.apply(index, &Event::Contradicted(task))?
                || self.apply(index, &Event::Callback(Note { task: None, ..note.clone() }))?),
            (Some(task), _) => self.apply(index, &Event::Contradicted(task)),
        }
    }

    /// The store keeps task → job unique, but for jobs that follow one another.
    fn is_taken(&self, index: usize, task: &TaskId) -> bool {
        let job = &self.records[index].job;
        self.records.iter().any(|record| {
            let other = &record.job;
            let kin = other.retry_of == Some(job.id) || job.retry_of == Some(other.id);
            other.id != job.id && !kin && other.task.as_ref().is_some_and(|known| known.id == *task)
        })
    }

    fn write(&mut self, index: usize, change: Change) -> Result<(), String> {
        let record = &mut self.records[index];
        record.terminal_events += change.events.iter().filter(|entry| entry.kind.is_terminal()).count();
        if record.terminal_events > 1 {
            return Err(format!("job {index} ended twice"));
        }
        record.named.extend(change.job.task.iter().map(|task| task.id.clone()));
        record.job = change.job;
        let Some(successor) = change.successor else { return Ok(()) };
        let open =
            |record: &Record| record.job.retry_of == successor.job.retry_of && record.job.outcome().is_none();
        let wanted = successor.mode == RetryMode::Resubmit || !self.records.iter().any(open);
        if wanted && self.records.len() < MOST_JOBS {
            if let Err(sentence) = successor.job.check() {
                return Err(format!("a successor: {sentence}"));
            }
            self.remember(successor.job);
        }
        Ok(())
    }
}
