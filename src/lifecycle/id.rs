//! Identifiers and instants. Ids carry the time of their making, so they sort by it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// This instant and `span` milliseconds more.
    #[must_use]
    pub const fn plus(self, span: i64) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Milliseconds from `earlier` to this instant; negative when it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC day, in days from 1970-01-01.
    #[must_use]
    pub fn day(self) -> i32 {
        i32::try_from(self.0.div_euclid(86_400_000)).unwrap_or(i32::MAX)
    }
}

/// A text that is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix} + 32 lower-case hexadecimal digits")]
pub struct InvalidId {
    text: String,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What every such id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// An id made at `now` from ten bytes that nobody else has.
            #[must_use]
            pub fn new(now: Millis, unique: &[u8; 10]) -> Self {
                Self(Builder::from_unix_timestamp_millis(now.0.max(0).cast_unsigned(), unique).into_uuid())
            }

            /// The sixteen bytes, in the order of time.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// When it was made, by its first six bytes.
            #[must_use]
            pub fn made_at(&self) -> Millis {
                Millis(self.as_bytes()[..6].iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
            }

            /// The id with these sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId { text: text.chars().take(64).collect(), prefix: Self::PREFIX };
                let digits = text.strip_prefix(Self::PREFIX).ok_or_else(invalid)?;
                let plain = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !plain {
                    return Err(invalid());
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| invalid())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

id!(
    /// A job of ours.
    JobId,
    "job_"
);
id!(
    /// An entry of the event log.
    EventId,
    "evt_"
);
id!(
    /// One event owed to one sink.
    DeliveryId,
    "dlv_"
);
id!(
    /// An entry of the inbound callback log.
    CallbackId,
    "cbk_"
);

impl CallbackId {
    /// The id right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().wrapping_add(1)))
    }
}

/// Ten bytes that depend on nothing but `parts`: the same change gets the same ids, however often it is computed.
pub(super) fn derived(parts: &[&[u8]]) -> [u8; 10] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&hash.finalize()[..10]);
    bytes
}

/// The upstream's name for a task: opaque, at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub String);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_and_sorts_by_time() {
        let early = JobId::new(Millis(1_700_000_000_000), &[9; 10]);
        let late = JobId::new(Millis(1_700_000_000_001), &[0; 10]);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn a_text_that_is_not_an_id_is_refused() {
        let good = JobId::new(Millis(1), &[1; 10]).to_string();
        for bad in ["", "job_", "evt_0", &good.to_uppercase(), &good[..35], &format!("{good}0"), &good[4..]] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        assert!(good.parse::<EventId>().is_err());
    }
}
