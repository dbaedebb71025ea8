//! Deaths on demand, for the crash loop in `tests/chaos`.
//!
//! With the feature `chaos`, the environment names the point at which the process dies (`CHAOS_DIE_AT=store-synced:3`:
//! at the third pass) and the safeguards it does without (`CHAOS_WITHOUT=sync,cas`), so that the loop can show that it
//! would notice. Without the feature, which nothing turns on by default, all of this compiles to nothing.

use clap::ValueEnum;

/// Where the process can be made to die: before and after everything that lasts, and every call to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Point {
    /// A group of changes is judged, nothing of it is written.
    StoreJudged,
    /// It is in the store's memory.
    StoreApplied,
    /// It is with the operating system.
    StoreFlushed,
    /// It is on the disk.
    StoreSynced,
    /// Nobody was told so far.
    StoreAnswering,
    /// Everybody was told.
    StoreAnswered,
    /// The claim is durable, the create call does not begin yet.
    Submitting,
    /// The create call has its answer, or none; that is not recorded.
    Submitted,
    /// Before a question to the task route.
    Asking,
    /// After its answer.
    Asked,
    /// Before the first byte of a file.
    FetchBegins,
    /// The file has its name; that is not recorded.
    FetchEnds,
    /// The file is whole under its staging name.
    Naming,
    /// It has its name.
    Named,
    /// Every file is in the archive, the manifest is not.
    ManifestMissing,
    /// The manifest is in the archive too; that is not recorded.
    ManifestWritten,
    /// The claim of a delivery is durable, nothing of it was sent.
    Delivering,
    /// The sink has answered; that is not recorded.
    Delivered,
}

/// What keeps the promise, and can be left out to see it broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Safeguard {
    /// An acknowledgement waits until what it acknowledges is written and synced.
    Sync,
    /// A change of a record that somebody else has changed meanwhile is refused.
    Cas,
    /// A create call waits until the claim is durable.
    Claim,
}

/// Dies here, if this is the place and the time.
#[inline]
pub fn pass(point: Point) {
    #[cfg(feature = "chaos")]
    armed::pass(point);
    #[cfg(not(feature = "chaos"))]
    let _harmless = point;
}

/// Whether to do without a safeguard. Never so without the feature.
#[inline]
#[must_use]
pub fn without(safeguard: Safeguard) -> bool {
    #[cfg(feature = "chaos")]
    return armed::without(safeguard);
    #[cfg(not(feature = "chaos"))]
    {
        let _kept = safeguard;
        false
    }
}

/// Where a safeguard is missing, what it would have waited for takes its time: SIGKILL spares what the operating
/// system has, so only what lies before that can be lost.
#[inline]
pub fn dawdle() {
    #[cfg(feature = "chaos")]
    armed::dawdle();
}

#[cfg(feature = "chaos")]
mod armed {
    use std::{
        env,
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
        thread,
        time::Duration,
    };

    use clap::ValueEnum;

    use super::{Point, Safeguard};

    struct Death {
        point: Point,
        passes_left: AtomicU32,
    }

    static DEATH: LazyLock<Option<Death>> = LazyLock::new(|| {
        let text = env::var("CHAOS_DIE_AT").ok()?;
        tracing::warn!(at = text, "this is a build for tests: it will die");
        let (name, passes) = text.split_once(':').unwrap_or((&text, "1"));
        let point = Point::from_str(name, false).expect("CHAOS_DIE_AT names a point");
        let passes = passes.parse().expect("CHAOS_DIE_AT counts passes");
        Some(Death { point, passes_left: AtomicU32::new(passes) })
    });

    static MISSING: LazyLock<Vec<Safeguard>> = LazyLock::new(|| {
        let text = env::var("CHAOS_WITHOUT").unwrap_or_default();
        let names = text.split(',').filter(|name| !name.is_empty());
        let missing: Vec<_> = names
            .map(|name| Safeguard::from_str(name, false).expect("CHAOS_WITHOUT names safeguards"))
            .collect();
        if !missing.is_empty() {
            tracing::warn!(without = text, "this is a build for tests: it loses jobs and pays twice");
        }
        missing
    });

    pub(super) fn pass(point: Point) {
        let Some(death) = DEATH.as_ref().filter(|death| death.point == point) else { return };
        if death.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort(); // as SIGKILL: no destructor, no flush
        }
    }

    pub(super) fn without(safeguard: Safeguard) -> bool {
        MISSING.contains(&safeguard)
    }

    pub(super) fn dawdle() {
        if !MISSING.is_empty() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}
