//! The end of a schedule: faults are off, and nothing may be owed or lost.

use reelhook::lifecycle::{Phase, TaskId};

use super::{Item, World};
use crate::{faults::admits_doubt, upstream::Fate};

impl World<'_> {
    /// Faults end. Everything still under way arrives, and what is due gets done, until nothing is.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.upstream.faulty = false;
        if self.random.once_in(2) {
            let calls = self.upstream.works.iter().map(|work| (work.job, work.id.clone()));
            self.items.extend(calls.map(|(job, id)| Item::Callback { job, task: Some(id) }));
        }
        for _ in 0..400 {
            while let Some(item) = self.items.pop() {
                self.advance(item)?;
            }
            if self.records.iter().all(|record| record.job.due_at.is_none()) {
                return self.nothing_is_lost();
            }
            self.tick()?;
        }
        let open = self.records.iter().find(|record| record.job.due_at.is_some()).map(|record| &record.job);
        Err(format!("a job does not settle: {open:?}"))
    }

    fn nothing_is_lost(&self) -> Result<(), String> {
        for (index, record) in self.records.iter().enumerate() {
            let settled = record.job.outcome().is_some();
            if record.terminal_events != usize::from(settled) {
                return Err(format!("job {index} has {} terminal events", record.terminal_events));
            }
        }
        let honest = !self.upstream.lies && !self.upstream.mixes;
        for record in self.records.iter().filter(|_| !self.upstream.mixes) {
            let noticed = |task: &TaskId| record.job.notices.iter().any(|text| text.contains(&task.0));
            if let Some(task) = record.told.iter().find(|task| !record.named.contains(task) && !noticed(task))
            {
                return Err(format!("{task} was accepted and forgotten by {:?}", record.job));
            }
        }
        for work in self.upstream.works.iter().filter(|_| honest) {
            let record = &self.records[work.job];
            if !record.named.contains(&work.id) && !admits_doubt(&record.job) {
                return Err(format!("{work:?} was charged and forgotten by {:?}", record.job));
            }
            if record.job.cost.reserved.is_none() {
                return Err(format!("{work:?} was charged and its booking given back by {:?}", record.job));
            }
            if work.fate == Fate::Running && matches!(record.job.phase, Phase::Awaiting(_)) {
                return Err(format!("{work:?} is still awaited by {:?}", record.job));
            }
        }
        Ok(())
    }
}
