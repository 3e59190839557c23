//! Leases. Those that stay live far longer than a sequence, since when a lease ends is a matter of time.

use crate::call::{Call, LeaseRef};
use crate::rng::Rng;

pub(super) fn call(rng: &mut Rng) -> Call {
    match rng.below(10) {
        0..3 => Call::Grant {
            id: rng.pick(&[0, 1, 2, 3, 4, 5, -1, i64::MAX, i64::MIN]),
            ttl: rng.pick(&[600, 601, 100_000, 9_000_000_000, 9_000_000_001, i64::MAX]),
        },
        3 => Call::GrantBriefly {
            ttl: rng.pick(&[0, -1, 1, 2, i64::MIN]),
        },
        4 => Call::Revoke(any(rng)),
        5 | 6 => Call::KeepAlive(any(rng)),
        7 | 8 => Call::TimeToLive {
            lease: any(rng),
            keys: rng.one_in(2),
        },
        _ => Call::Leases,
    }
}

/// A lease that may exist or not.
pub(super) fn any(rng: &mut Rng) -> LeaseRef {
    match rng.below(8) {
        0 => LeaseRef::Picked(usize::try_from(rng.below(4)).unwrap_or(0)),
        1 => LeaseRef::Id(rng.pick(&[0, -1, i64::MAX, i64::MIN, 77])),
        _ => LeaseRef::Id(rng.pick(&[1, 2, 3, 4, 5])),
    }
}
