//! How often the callback listener bears a caller, in memory that is bounded whoever comes.
//!
//! A request without a valid token counts against its address, one with a token against its job, and never against an
//! address: behind a proxy all callers have one, and a stranger's noise must not keep a paid callback out. A callback
//! that is one too many is not read, but its job is looked at as soon as there is room again.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use crate::{config, lifecycle::JobId};

/// What a network gives one customer, who has all of its addresses.
const IPV6_CUSTOMER: u128 = !0 << 64;

/// The limits of the callback listener.
pub struct Limits {
    jobs: Limiter,
    addresses: Limiter,
    /// Jobs that will be looked at soon, since a callback was turned away.
    owed: Mutex<HashSet<JobId>>,
}

impl Limits {
    /// By `[callback] rate_limit_per_minute` and `miss_limit_per_minute`.
    #[must_use]
    pub fn new(settings: &config::Callback) -> Self {
        Self {
            jobs: Limiter::per_minute(settings.rate_limit_per_minute),
            addresses: Limiter::per_minute(settings.miss_limit_per_minute),
            owed: Mutex::default(),
        }
    }

    /// Counts a callback; the error is how long until there is room for another.
    pub(super) fn callback(&self, job: JobId) -> Result<(), Duration> {
        self.jobs.admit(&job)
    }

    /// Counts a request that opens nothing.
    pub(super) fn miss(&self, from: Option<IpAddr>) -> Result<(), Duration> {
        self.addresses.admit(&from.map(customer))
    }

    /// Whether this is the first look that the job is owed.
    pub(super) fn owe(&self, job: JobId) -> bool {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).insert(job)
    }

    /// The look is taken: from now on another would be owed.
    pub(super) fn settle(&self, job: JobId) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }
}

/// One customer of a network: an IPv4 address, or an IPv6 network of 64 bits.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_CUSTOMER).into(),
        address => address,
    }
}

/// Callers by a secret hash of 16 bits, so that no number of them takes more than some megabytes. Two may share their
/// room; nobody can choose with whom.
struct Limiter {
    rooms: DefaultKeyedRateLimiter<u16>,
    hasher: RandomState,
}

impl Limiter {
    fn per_minute(count: u32) -> Self {
        let quota = Quota::per_minute(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN));
        Self { rooms: DefaultKeyedRateLimiter::keyed(quota), hasher: RandomState::new() }
    }

    fn admit(&self, caller: &impl Hash) -> Result<(), Duration> {
        let room = self.hasher.hash_one(caller) as u16;
        let refused = |refused: governor::NotUntil<_>| refused.wait_time_from(self.rooms.clock().now());
        self.rooms.check_key(&room).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn any_number_of_callers_takes_a_bounded_number_of_rooms() {
        let limiter = Limiter::per_minute(1);
        for caller in 0..200_000_u32 {
            _ = limiter.admit(&caller);
        }
        assert!(limiter.rooms.len() <= 1 << 16, "{}", limiter.rooms.len());
    }

    #[test]
    fn who_has_used_up_his_room_is_told_when_there_is_more_and_others_are_let_in() {
        let limiter = Limiter::per_minute(3);
        let admitted = (0..4).map(|_| limiter.admit(&"one")).collect::<Vec<_>>();
        assert_eq!(admitted[..3], [Ok(()); 3]);
        let wait = admitted[3].unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        // Among so many at most a few share a room with the one.
        assert!((0..100).filter(|other| limiter.admit(other).is_ok()).count() > 90);
    }

    #[test]
    fn the_addresses_of_one_customer_are_one() {
        assert_eq!(customer(address("2001:db8::1")), customer(address("2001:db8::ffff:1")));
        assert_ne!(customer(address("2001:db8::1")), customer(address("2001:db8:0:1::1")));
        assert_eq!(customer(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_job_is_owed_one_look_at_a_time() {
        let (limits, job) = (Mutex::new(HashSet::new()), JobId::from_bytes([1; 16]));
        let limits = Limits { jobs: Limiter::per_minute(1), addresses: Limiter::per_minute(1), owed: limits };
        assert_eq!([limits.owe(job), limits.owe(job)], [true, false]);
        limits.settle(job);
        assert!(limits.owe(job));
    }
}
