//! Records in bytes that nothing leads to any more: in the engine's log, where it does not open, and in damaged values.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sled::IVec;

use super::{
    record::{self, Trail},
    source::{Row, Source},
    value::{self, HEADER},
};
use crate::lifecycle::{EventId, EventKind, EventRecord, Job, JobId, Outcome, Reservation, Status, TaskId};

/// How the JSON of every record begins.
const MARK: &[u8] = br#"{"id":"job_"#;
/// Bytes of the log that are looked at together.
const WINDOW: usize = 8 << 20;

/// The newest whole record of each job in the engine's log, but for those longer than one value. A record that was replaced is
/// as whole as the one that came after it, which may be what was lost.
pub(super) fn records(log: &Path) -> io::Result<HashMap<JobId, (Job, Trail)>> {
    let (mut file, mut window, mut found) = (File::open(log)?, Vec::new(), HashMap::new());
    loop {
        let read = (&mut file).take(WINDOW as u64).read_to_end(&mut window)?;
        for at in marks(&window) {
            let Some((job, trail)) = whole(&window, at) else { continue };
            let newer = |known: &(Job, Trail)| known.0.revision < job.revision;
            if found.get(&job.id).is_none_or(newer) {
                found.insert(job.id, (job, trail));
            }
        }
        if read == 0 {
            return Ok(found);
        }
        // What lies across the border is met again.
        window.drain(..window.len().saturating_sub(2 * value::MAX));
    }
}

fn marks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(|at| bytes[*at] == MARK[0] && bytes[*at..].starts_with(MARK))
}

/// The record whose JSON begins at `at`, if its checksum says that it is whole. Its head lies before it, at a distance that
/// depends on its trail.
fn whole(bytes: &[u8], at: usize) -> Option<(Job, Trail)> {
    let nearest = at.checked_sub(HEADER + record::LENGTH + 4)?;
    (0..=value::MAX / 8).map_while(|numbers| nearest.checked_sub(8 * numbers)).find_map(|start| {
        let length = value::length(&bytes[start..])?;
        let head = IVec::from(bytes.get(start..start + HEADER + length)?);
        let record = value::join(&Nothing, &[], &head).ok()?;
        let job = record::decode(&record).ok().filter(|job| job.check().is_ok())?;
        Some((job, Trail::parse(&record).ok()?.0))
    })
}

/// Pieces are not looked for.
struct Nothing;

impl Source for Nothing {
    fn get(&self, _: &[u8]) -> sled::Result<Option<IVec>> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize) -> sled::Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

/// The task that a damaged record names, as far as can be read. It may be wrong; the task route knows.
pub(super) fn task(record: &[u8]) -> Option<TaskId> {
    text(record, br#""task":{"id":""#).map(TaskId)
}

/// The model that a damaged record names.
pub(super) fn model(record: &[u8]) -> Option<String> {
    text(record, br#""model":""#)
}

/// What a damaged record has booked.
pub(super) fn reserved(record: &[u8]) -> Option<Reservation> {
    let rest = after(record, br#""reserved":"#)?;
    serde_json::Deserializer::from_slice(rest).into_iter().next()?.ok()
}

fn after<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(name.len()).position(|window| window == name)?;
    bytes.get(at + name.len()..)
}

/// The text after `name`, up to the next quotation mark.
fn text(bytes: &[u8], name: &[u8]) -> Option<String> {
    let rest = after(bytes, name)?;
    let text = &rest[..rest.iter().take(129).position(|byte| *byte == b'"')?];
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(text).into_owned())
}

/// How a job ended, by its terminal event.
pub(super) fn outcome(event: &EventRecord) -> Option<Outcome> {
    let field = |name: &str| event.data.get(name).cloned().unwrap_or_default();
    match event.kind {
        EventKind::Succeeded => Some(Outcome::Stored { files: serde_json::from_value(field("files")).ok()? }),
        EventKind::Failed => Some(Outcome::Failed {
            code: serde_json::from_value(field("code")).ok()?,
            message: field("message").as_str()?.to_owned(),
            files: Vec::new(),
        }),
        EventKind::Canceled => {
            let may_still_charge = field("upstream_may_still_charge").as_bool()?;
            Some(Outcome::Canceled { may_still_charge, files: Vec::new() })
        }
        _ => None,
    }
}

/// The terminal event of a settled job whose own is lost.
pub(super) fn end(job: &Job) -> EventRecord {
    let kind = match job.status() {
        Status::Succeeded => EventKind::Succeeded,
        Status::Canceled => EventKind::Canceled,
        _ => EventKind::Failed,
    };
    let time = job.times.finished_at.unwrap_or(job.created_at);
    let mut unique = [0; 10];
    unique.copy_from_slice(&job.id.as_bytes()[6..]);
    EventRecord {
        id: EventId::new(time, &unique),
        kind,
        time,
        job_id: Some(job.id),
        revision: Some(job.revision),
        data: serde_json::json!({ "recovered": true }),
    }
}
