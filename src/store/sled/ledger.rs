//! Credits booked, per UTC day; a month is the sum of its days.

use super::{
    keys,
    source::Source,
    txn::{Txn, engine},
    value,
};
use crate::{
    lifecycle::Reservation,
    store::{Booked, Exceeded, Limits, StoreError},
};

/// The first day of the month of `day`, and of the month after.
fn month(day: i32) -> (i32, i32) {
    let epoch = jiff::civil::date(1970, 1, 1);
    let span = |day: i32| jiff::Span::new().try_days(day).and_then(|days| epoch.checked_add(days));
    let bounds = span(day).map(|date| {
        let first = day - i32::from(date.day()) + 1;
        (first, first + i32::from(date.days_in_month()))
    });
    bounds.unwrap_or((day, day.saturating_add(1)))
}

fn credits(source: &impl Source, day: i32) -> Result<u64, StoreError> {
    let entry = value::read(source, &keys::ledger(day)).map_err(|fault| fault.of(|| format!("day {day}")))?;
    Ok(entry.map_or(0, |entry| parse(&entry)))
}

/// The credits in a stored day.
pub(super) fn parse(entry: &[u8]) -> u64 {
    entry.first_chunk().map_or(0, |credits| u64::from_be_bytes(*credits))
}

/// What is booked on `day` and in its month.
pub(super) fn booked(source: &impl Source, day: i32) -> Result<Booked, StoreError> {
    let (first, after) = month(day);
    let mut booked = Booked { day: credits(source, day)?, month: 0 };
    let rows = source.scan(&keys::ledger(first), &keys::ledger(after), 31).map_err(engine)?;
    if !rows.is_empty() {
        for day in first..after {
            booked.month = booked.month.saturating_add(credits(source, day)?);
        }
    }
    Ok(booked)
}

/// The limit that a booking would exceed.
pub(super) fn exceeded(
    txn: &Txn,
    wanted: Reservation,
    limits: &Limits,
) -> Result<Option<Exceeded>, StoreError> {
    if limits.daily_credits == 0 && limits.monthly_credits == 0 {
        return Ok(None);
    }
    let booked = booked(txn, wanted.day)?;
    let periods =
        [("daily", booked.day, limits.daily_credits), ("monthly", booked.month, limits.monthly_credits)];
    let exceeds =
        |(_, booked, limit): &(_, u64, u64)| *limit > 0 && booked.saturating_add(wanted.credits) > *limit;
    let over = periods.into_iter().find(exceeds);
    Ok(over.map(|(period, booked, limit)| Exceeded { period, booked, limit }))
}

/// Adds to a day.
pub(super) fn book(txn: &mut Txn, booking: Reservation) -> Result<(), StoreError> {
    let sum = credits(txn, booking.day)?.saturating_add(booking.credits);
    txn.put(&keys::ledger(booking.day), &sum.to_be_bytes())
}

/// Takes out of a day what was added to it.
pub(super) fn release(txn: &mut Txn, booking: Reservation) -> Result<(), StoreError> {
    let sum = credits(txn, booking.day)?.saturating_sub(booking.credits);
    txn.put(&keys::ledger(booking.day), &sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Millis;

    #[test]
    fn a_month_is_found_from_any_of_its_days() {
        // 2024-02-01 is day 19,754; February had 29 days.
        for day in [19_754, 19_768, 19_782] {
            assert_eq!(month(day), (19_754, 19_783));
        }
        assert_eq!(month(19_783).0, 19_783);
        assert_eq!(month(-1), (-31, 0));
        assert_eq!(Millis(-1).day(), -1);
    }
}
