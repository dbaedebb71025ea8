//! Random bytes: the system's, or in tests a series that a seed fixes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoEntropy;

/// Where random bytes come from.
#[derive(Debug)]
pub struct Entropy(Option<AtomicU64>);

impl Entropy {
    /// The system's: nobody can guess them.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// The series that belongs to `seed`, the same every time. Anybody can guess them: only for simulations.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(Some(AtomicU64::new(seed)))
    }

    /// The next bytes.
    ///
    /// # Errors
    /// The system has none.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        match &self.0 {
            None => getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?,
            Some(state) => {
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&splitmix(state).to_be_bytes()[..chunk.len()]);
                }
            }
        }
        Ok(bytes)
    }
}

fn splitmix(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = state.fetch_add(STEP, Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_its_series_and_no_two_draws_are_alike() {
        let (one, same, other) = (Entropy::seeded(7), Entropy::seeded(7), Entropy::seeded(8));
        let first = one.bytes::<10>().unwrap();
        assert_eq!(first, same.bytes().unwrap());
        assert_ne!(first, other.bytes().unwrap());
        assert_ne!(first, one.bytes().unwrap());
    }

    #[test]
    fn the_system_gives_other_bytes_each_time() {
        assert_ne!(Entropy::system().bytes::<16>().unwrap(), Entropy::system().bytes().unwrap());
    }
}
