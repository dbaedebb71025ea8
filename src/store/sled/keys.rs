//! The keys of the one tree: a prefix byte, then what the entry is looked up by, in the order of scans.

use crate::{
    lifecycle::{CallbackId, DeliveryId, Due, Duty, JobId, Millis, TaskId},
    store::digest,
};

/// Records of jobs, by id: `j ‖ job`.
pub(super) const JOB: u8 = b'j';
/// What is due, in pages: `d ‖ duty ‖ not urgent ‖ at ‖ job` of the first entry of each.
pub(super) const DUE: u8 = b'd';
/// The event log: `e ‖ seq`.
pub(super) const EVENT: u8 = b'e';
/// Where the event log and the clock stand.
pub(super) const HEAD: &[u8] = b"h";
/// Jobs by phase and outcome.
pub(super) const TALLY: &[u8] = b"n";
/// Debts to sinks: `o ‖ delivery`.
pub(super) const DELIVERY: u8 = b'o';
/// Deliveries that wait: `w ‖ hash of the lane ‖ at ‖ delivery`.
pub(super) const PENDING: u8 = b'w';
/// Deliveries of a job, each with its state: `x ‖ job ‖ delivery`.
pub(super) const OF_JOB: u8 = b'x';
/// Bodies of deliveries: `y ‖ delivery`.
pub(super) const BODY: u8 = b'y';
/// Deliveries that are claimed: `v ‖ delivery`.
pub(super) const DELIVERY_LEASE: u8 = b'v';
/// What is remembered of sinks: `u ‖ name`.
pub(super) const SINK: u8 = b'u';
/// Idempotency keys: `i ‖ hash of owner and key`.
pub(super) const IDEMPOTENCY: u8 = b'i';
/// The inbound log: `c ‖ first callback of a page`.
pub(super) const CALLBACK: u8 = b'c';
/// Callbacks seen for jobs that have no record: `k ‖ job ‖ hash of the delivery id`.
pub(super) const STRAY: u8 = b'k';
/// How much is kept of those.
pub(super) const STRAYS: &[u8] = b"g";
/// The job that has a task: `t ‖ hash of the task id`.
pub(super) const TASK: u8 = b't';
/// The ledger: `b ‖ day`.
pub(super) const LEDGER: u8 = b'b';
/// Requests: `r ‖ job`.
pub(super) const DOCUMENT: u8 = b'r';
/// Jobs that are claimed: `l ‖ job`.
pub(super) const LEASE: u8 = b'l';
/// Values kept for ever: `s ‖ name`.
pub(super) const KEPT: u8 = b's';
/// Damaged values, as they were: `q ‖ key`.
pub(super) const QUARANTINE: u8 = b'q';
/// Pieces of a long value: `p ‖ key ‖ number`.
pub(super) const PIECE: u8 = b'p';

/// What a prefix is called that is none of these.
pub(super) const UNKNOWN: &str = "unknown";

/// What the entries under a prefix are called.
pub(super) fn name(prefix: u8) -> &'static str {
    match prefix {
        JOB => "job",
        DUE => "due",
        EVENT => "event",
        b'h' => "head",
        b'n' => "tally",
        DELIVERY => "delivery",
        PENDING => "pending delivery",
        OF_JOB => "delivery of a job",
        BODY => "body",
        DELIVERY_LEASE => "delivery lease",
        SINK => "sink",
        IDEMPOTENCY => "idempotency",
        CALLBACK => "callback",
        STRAY => "stray",
        b'g' => "strays",
        TASK => "task",
        LEDGER => "ledger",
        DOCUMENT => "request",
        LEASE => "lease",
        KEPT => "kept",
        QUARANTINE => "aside",
        PIECE => "piece",
        _ => UNKNOWN,
    }
}

fn join(prefix: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(prefix);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// A signed number whose bytes sort as it does.
fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

pub(super) fn job(id: JobId) -> Vec<u8> {
    join(JOB, &[id.as_bytes()])
}

pub(super) fn document(id: JobId) -> Vec<u8> {
    join(DOCUMENT, &[id.as_bytes()])
}

pub(super) fn lease(id: JobId) -> Vec<u8> {
    join(LEASE, &[id.as_bytes()])
}

/// An entry of the due index.
pub(super) type DueKey = [u8; 3 + 8 + 16];

pub(super) fn due(due: Due, id: JobId) -> DueKey {
    let mut key = [DUE; _];
    key[1..3].copy_from_slice(&[due.duty as u8, u8::from(!due.urgent)]);
    key[3..11].copy_from_slice(&ordered(due.at.0));
    key[11..].copy_from_slice(id.as_bytes());
    key
}

/// The pages of a duty, urgent or not, whose first entry is due from `from` on and before `to`.
pub(super) fn due_range(duty: Duty, urgent: bool, from: Millis, to: Millis) -> (Vec<u8>, Vec<u8>) {
    let at = |at: Millis| join(DUE, &[&[duty as u8, u8::from(!urgent)], &ordered(at.0)]);
    (at(from), at(to))
}

/// When and whom an entry of the due index names.
pub(super) fn parse_due(key: &DueKey) -> (Millis, JobId) {
    let (mut at, mut id) = ([0; 8], [0; 16]);
    at.copy_from_slice(&key[3..11]);
    id.copy_from_slice(&key[11..]);
    (Millis((u64::from_be_bytes(at) ^ (1 << 63)).cast_signed()), JobId::from_bytes(id))
}

pub(super) fn event(seq: u64) -> Vec<u8> {
    join(EVENT, &[&seq.to_be_bytes()])
}

/// The number in an event's key.
pub(super) fn parse_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq))
}

/// The id after the prefix.
pub(super) fn parse_id(key: &[u8]) -> Option<[u8; 16]> {
    key.get(1..)?.try_into().ok()
}

pub(super) fn delivery(id: DeliveryId) -> Vec<u8> {
    join(DELIVERY, &[id.as_bytes()])
}

/// An entry of the index of deliveries that wait.
pub(super) type PendingKey = [u8; 1 + 16 + 8 + 16];

pub(super) fn pending(lane: &str, at: Millis, id: DeliveryId) -> PendingKey {
    let mut key = [PENDING; _];
    key[1..17].copy_from_slice(&digest::of(&[lane.as_bytes()]));
    key[17..25].copy_from_slice(&ordered(at.0));
    key[25..].copy_from_slice(id.as_bytes());
    key
}

/// The first key of that index.
pub(super) fn first_pending() -> Vec<u8> {
    vec![PENDING]
}

/// The deliveries of a lane that wait and are due before `to`.
pub(super) fn pending_range(lane: &str, to: Millis) -> (Vec<u8>, Vec<u8>) {
    let lane = digest::of(&[lane.as_bytes()]);
    (join(PENDING, &[&lane]), join(PENDING, &[&lane, &ordered(to.0)]))
}

/// The first key after all that wait in the lane of `key`; none after the last lane that can be.
pub(super) fn next_lane(key: &PendingKey) -> Option<Vec<u8>> {
    let mut lane = [0; 16];
    lane.copy_from_slice(&key[1..17]);
    let next = u128::from_be_bytes(lane).checked_add(1)?;
    Some(join(PENDING, &[&next.to_be_bytes()]))
}

/// When and whom an entry of that index names.
pub(super) fn parse_pending(key: &PendingKey) -> (Millis, DeliveryId) {
    let (mut at, mut id) = ([0; 8], [0; 16]);
    at.copy_from_slice(&key[17..25]);
    id.copy_from_slice(&key[25..]);
    (Millis((u64::from_be_bytes(at) ^ (1 << 63)).cast_signed()), DeliveryId::from_bytes(id))
}

/// The delivery that an entry of an index ends with.
pub(super) fn parse_delivery(key: &[u8]) -> Option<DeliveryId> {
    key.last_chunk().map(|id| DeliveryId::from_bytes(*id))
}

pub(super) fn of_job(job: JobId, id: DeliveryId) -> Vec<u8> {
    join(OF_JOB, &[job.as_bytes(), id.as_bytes()])
}

pub(super) fn of_job_range(job: JobId) -> (Vec<u8>, Vec<u8>) {
    (join(OF_JOB, &[job.as_bytes()]), join(OF_JOB, &[job.as_bytes(), &[u8::MAX; 17]]))
}

pub(super) fn body(id: DeliveryId) -> Vec<u8> {
    join(BODY, &[id.as_bytes()])
}

pub(super) fn delivery_lease(id: DeliveryId) -> Vec<u8> {
    join(DELIVERY_LEASE, &[id.as_bytes()])
}

pub(super) fn sink(name: &str) -> Vec<u8> {
    join(SINK, &[name.as_bytes()])
}

pub(super) fn callback(id: CallbackId) -> Vec<u8> {
    join(CALLBACK, &[id.as_bytes()])
}

pub(super) fn stray(job: JobId, delivery: u64) -> Vec<u8> {
    join(STRAY, &[job.as_bytes(), &delivery.to_be_bytes()])
}

/// Those for one job.
pub(super) fn strays_of(job: JobId) -> (Vec<u8>, Vec<u8>) {
    // One more than any hash: its length makes it sort behind.
    (join(STRAY, &[job.as_bytes()]), join(STRAY, &[job.as_bytes(), &[u8::MAX; 9]]))
}

pub(super) fn idempotency(owner: &str, key: &str) -> Vec<u8> {
    idempotency_of(digest::key(owner, key))
}

/// By the hash of owner and key.
pub(super) fn idempotency_of(hash: [u8; 16]) -> Vec<u8> {
    join(IDEMPOTENCY, &[&hash])
}

pub(super) fn task(id: &TaskId) -> Vec<u8> {
    join(TASK, &[&digest::of(&[id.0.as_bytes()])])
}

/// `day` counts from 1970-01-01, UTC.
pub(super) fn ledger(day: i32) -> Vec<u8> {
    join(LEDGER, &[&ordered(i64::from(day))])
}

/// The day in the key of an entry of the ledger.
pub(super) fn parse_day(key: &[u8]) -> Option<i32> {
    let day = u64::from_be_bytes(key.get(1..)?.try_into().ok()?) ^ (1 << 63);
    i32::try_from(day.cast_signed()).ok()
}

pub(super) fn kept(name: &str) -> Vec<u8> {
    join(KEPT, &[name.as_bytes()])
}

pub(super) fn quarantine(key: &[u8]) -> Vec<u8> {
    join(QUARANTINE, &[key])
}

pub(super) fn piece(key: &[u8], number: u64) -> Vec<u8> {
    join(PIECE, &[key, &number.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job_id(byte: u8) -> JobId {
        JobId::new(Millis(5), &[byte; 10])
    }

    #[test]
    fn due_keys_sort_by_duty_then_urgency_then_time_also_before_1970() {
        let key = |duty, urgent, at| due(Due { duty, urgent, at: Millis(at) }, job_id(1));
        let sorted = [
            key(Duty::Submit, false, 7),
            key(Duty::Ask, true, -3),
            key(Duty::Ask, true, 9_000),
            key(Duty::Ask, false, i64::MIN),
            key(Duty::Ask, false, -1),
            key(Duty::Ask, false, 0),
        ];
        assert!(sorted.is_sorted(), "{sorted:?}");
        assert_eq!(parse_due(&sorted[1]), (Millis(-3), job_id(1)));
    }

    #[test]
    fn an_owner_and_a_key_do_not_run_into_each_other() {
        assert_ne!(idempotency("ab", "c"), idempotency("a", "bc"));
    }
}
