//! The far side: it takes jobs for money, answers or does not, and calls back as it likes.

use reelhook::lifecycle::{AskFault, Event, FailCode, FetchFault, Refusal, Report, StoredFile, TaskId, Why};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Running,
    Done,
    Failed,
}

/// Work that it took, and charged.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) id: TaskId,
    /// Index of the job whose create call it was.
    pub(crate) job: usize,
    pub(crate) fate: Fate,
    videos: usize,
}

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) works: Vec<Work>,
    /// Off: it answers everything, truthfully.
    pub(crate) faulty: bool,
    /// Some of its refusals are untrue; then no client can help paying twice.
    pub(crate) lies: bool,
    /// Some of its answers and callbacks name another job's task.
    pub(crate) mixes: bool,
}

impl Upstream {
    fn take(&mut self, random: &mut Random, job: usize) -> TaskId {
        let id = TaskId(format!("task-{}", self.works.len()));
        let videos = 1 + random.below(4) / 3;
        self.works.push(Work { id: id.clone(), job, fate: Fate::Running, videos });
        id
    }

    /// A create call arrives, or nearly.
    pub(crate) fn create(&mut self, random: &mut Random, job: usize, lease: u64) -> Event {
        let lost = |why| Event::Unknown(why, lease);
        let refused = |refusal| Event::Refused(refusal, lease);
        match if self.faulty { random.below(16) } else { 0 } {
            7 => {
                self.take(random, job);
                lost(Why::AnswerLost)
            }
            8 => {
                self.take(random, job);
                lost(Why::AcceptedWithoutId)
            }
            9 => lost(Why::AnswerLost),
            10 if self.mixes && !self.works.is_empty() => {
                let another = self.works[random.below(self.works.len())].id.clone();
                self.take(random, job);
                Event::Accepted(another, lease)
            }
            11 => refused(Refusal::Account { message: "no credits".into(), others_pass: random.once_in(2) }),
            12 => refused(Refusal::Job(FailCode::UpstreamRejected, "prompt too long".into())),
            13 => refused(Refusal::NotSent("connection refused".into())),
            14 if self.lies => {
                self.take(random, job);
                refused(Refusal::Busy(None))
            }
            14 | 15 => refused(Refusal::Busy(random.once_in(2).then_some(2_000))),
            _ => Event::Accepted(self.take(random, job), lease),
        }
    }

    /// The task route is asked.
    pub(crate) fn ask(&mut self, random: &mut Random, task: &TaskId, lease: u64) -> Event {
        let roll = if self.faulty { random.below(10) } else { 9 };
        let unanswered = || Event::Unanswered(AskFault { message: "502".into(), retry_after: None }, lease);
        let faulty = self.faulty;
        let report = match (roll, self.works.iter_mut().find(|work| work.id == *task)) {
            (0, _) => return unanswered(),
            (1, _) | (_, None) => Report::NotFound,
            (2, _) => Report::Running { word: Some("dithering".into()), known: false, progress: None },
            (3, Some(work)) if work.fate == Fate::Done => Report::Succeeded { links: vec![], credits: None },
            (_, Some(work)) => {
                let report = work.report();
                if work.fate == Fate::Running && !faulty {
                    work.fate = Fate::Done;
                }
                report
            }
        };
        Event::Reported(task.clone(), report, lease)
    }

    /// The file host is asked.
    pub(crate) fn fetch(&self, random: &mut Random, index: usize, lease: u64) -> Event {
        let roll = if self.faulty { random.below(10) } else { 9 };
        let fault = match roll {
            0 => FetchFault::LinkRefused(403),
            1 => FetchFault::Trouble("reset".into(), None),
            2 if random.once_in(2) => FetchFault::NotVideo("text/html".into()),
            3 if random.once_in(8) => FetchFault::TooLarge("9 GB".into()),
            _ => return Event::Fetched { index, file: file(index), lease },
        };
        Event::NotFetched { index, fault, lease }
    }

    /// Some running work ends.
    pub(crate) fn progress(&mut self, random: &mut Random) -> Option<usize> {
        let running = self.works.iter().position(|work| work.fate == Fate::Running)?;
        self.works[running].fate = if random.once_in(4) { Fate::Failed } else { Fate::Done };
        Some(running)
    }
}

impl Work {
    fn report(&self) -> Report {
        match self.fate {
            Fate::Running => {
                Report::Running { word: Some("processing".into()), known: true, progress: Some(40) }
            }
            Fate::Done => {
                let link = |n| format!("https://files.example/{}/{n}.mp4", self.id);
                Report::Succeeded { links: (0..self.videos).map(link).collect(), credits: Some(300) }
            }
            Fate::Failed => Report::Failed {
                code: FailCode::UpstreamFailed,
                message: "out of memory".into(),
                credits: Some(0),
            },
        }
    }
}

pub(crate) fn file(index: usize) -> StoredFile {
    StoredFile {
        name: format!("{index}.mp4"),
        location: format!("jobs/{index}.mp4"),
        bytes: 1_024,
        sha256: "0".repeat(64),
        content_type: "video/mp4".into(),
    }
}
