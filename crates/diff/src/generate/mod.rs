//! Draws the calls of a sequence.
//!
//! - The alphabets of keys, values, leases and watchers are small, so that calls meet.
//! - About one call in ten is wrong in some way: refusals are compared like answers.

pub(crate) mod auth;
mod kv;
mod lease;
mod watch;

use crate::call::{Call, MemberRef, Rev};
use crate::rng::Rng;

/// The calls of the sequence `number` under `seed`.
pub(crate) fn sequence(seed: u64, number: u64, length: usize) -> Vec<Call> {
    let mut rng = Rng::new(seed, number);
    (0..length).map(|_| call(&mut rng)).collect()
}

fn call(rng: &mut Rng) -> Call {
    match rng.below(1000) {
        0..250 => Call::Range(kv::range_alone(rng)),
        250..450 => Call::Put(kv::put(rng)),
        450..530 => Call::Delete(kv::delete(rng)),
        530..780 => Call::Txn(kv::txn(rng)),
        780..800 => kv::compact(rng),
        800..900 => lease::call(rng),
        900..960 => watch::call(rng),
        960..998 => other(rng),
        _ => kv::huge(rng),
    }
}

fn other(rng: &mut Rng) -> Call {
    match rng.below(14) {
        0 => Call::MemberList {
            linearizable: rng.one_in(2),
        },
        1 => Call::MemberAdd { urls: bad_urls(rng) },
        2 => Call::MemberRemove(UNKNOWN_MEMBER),
        3 => Call::MemberUpdate {
            member: rng.pick(&[MemberRef::Id(UNKNOWN_MEMBER), MemberRef::Itself]),
            urls: bad_urls(rng),
        },
        4 => Call::MemberUpdate {
            member: MemberRef::Id(UNKNOWN_MEMBER),
            urls: vec!["http://127.0.0.1:1".to_owned()],
        },
        5 => Call::MemberPromote(member(rng)),
        6 => Call::Status,
        7 => Call::HashKv(revision(rng)),
        8 => Call::Defragment,
        9 => Call::MoveLeader(member(rng)),
        10 => Call::Alarms {
            kind: rng.pick(&[0, 1, 2, 3]),
        },
        11 => Call::Alarmed {
            kind: rng.pick(&[1, 1, 2]),
            member: rng.pick(&[MemberRef::Itself, MemberRef::Id(7)]),
        },
        12 => rng.pick(&[Call::AuthStatus, Call::AuthDisable]),
        _ => Call::Authenticate {
            name: rng.pick(&["root", ""]).to_owned(),
            password: rng.pick(&["secret", ""]).to_owned(),
        },
    }
}

fn member(rng: &mut Rng) -> MemberRef {
    rng.pick(&[MemberRef::Itself, MemberRef::Id(UNKNOWN_MEMBER), MemberRef::Id(0)])
}

/// Peer URLs that no member can have.
fn bad_urls(rng: &mut Rng) -> Vec<String> {
    let urls: &[&[&str]] = &[
        &[],
        &[""],
        &["127.0.0.1:2380"],
        &["http://127.0.0.1"],
        &["ftp://127.0.0.1:2380"],
        &["http://127.0.0.1:2380/path"],
        &["http://127.0.0.1:2380", "nonsense"],
    ];
    rng.pick(urls).iter().map(|url| (*url).to_owned()).collect()
}

/// A revision to read or start at.
fn revision(rng: &mut Rng) -> Rev {
    let near = i64::try_from(rng.below(12)).unwrap_or(0);
    match rng.below(16) {
        0..5 => Rev::Exactly(0),
        5..11 => Rev::Current(-near),
        11 => Rev::Current(1 + near),
        12 | 13 => Rev::Compacted(near - 2),
        14 => Rev::Exactly(near),
        _ => Rev::Exactly(rng.pick(&[-1, i64::MIN, i64::MAX])),
    }
}

const UNKNOWN_MEMBER: u64 = 0xbad;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_the_same_each_time_it_is_drawn() {
        let text = |seed, number| format!("{:?}", sequence(seed, number, 200));
        assert_eq!(text(1, 1), text(1, 1));
        assert_ne!(text(1, 1), text(1, 2));
        assert_ne!(text(1, 1), text(2, 1));
    }

    /// A generator that has lost a kind of call would compare less than it claims.
    #[test]
    fn every_kind_of_call_is_drawn() {
        let calls = sequence(1, 1, 20_000);
        let name = |call: &Call| {
            let text = format!("{call:?}");
            let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
            text[..end].to_owned()
        };
        let names: std::collections::BTreeSet<String> = calls.iter().map(name).collect();
        assert_eq!(names.len(), 28, "{names:?}");
    }
}
