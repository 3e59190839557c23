//! Sessions as a function of the log: against a naive twin, across snapshots, within bounds, in bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use quorate::machine::{Machine, RestoreError};
use quorate::sessions::command::{CommandError, Moment};
use quorate::sessions::table::{MAX_STEP, Usage};
use quorate::sessions::{Command, Refusal, Reply, Seq, SessionId, SessionLimits, TimeToLive};
use quorate::{EntryId, Index, Sessions, Term, Typed};

mod subject;
mod twin;

use subject::{Journal, Order, Subject, applied, machine, order, request};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_repeated_request_is_applied_once_and_has_the_same_response() {
    let mut subject = Subject::new();
    let session = subject.open(LONG);
    assert_eq!(subject.apply(request(session, 1, 1, order(10))), applied(0));
    assert_eq!(subject.apply(request(session, 2, 1, order(20))), applied(1));
    assert_eq!(subject.apply(request(session, 1, 1, order(10))), applied(0));
    assert_eq!(subject.values(), [10, 20]);

    let other = subject.open(LONG);
    assert_eq!(
        subject.apply(request(other, 1, 1, order(30))),
        applied(2),
        "another's numbers are its own"
    );
    assert_eq!(subject.apply(Command::Plain(order(40))), applied(3));
    assert_eq!(
        subject.apply(Command::Plain(order(40))),
        applied(4),
        "there is nothing to know it by"
    );
}

#[test]
fn what_was_acknowledged_is_forgotten_and_refused() {
    let mut subject = Subject::new();
    let session = subject.open(LONG);
    subject.apply(request(session, 1, 1, order(10)));
    subject.apply(request(session, 3, 3, order(30)));
    assert_eq!(subject.usage().requests, 1);
    let refused = |seq| {
        Reply::Refused(Refusal::Acknowledged {
            seq: Seq(seq),
            acknowledged_below: Seq(3),
        })
    };
    assert_eq!(subject.apply(request(session, 1, 1, order(10))), refused(1));
    assert_eq!(
        subject.apply(request(session, 2, 1, order(20))),
        refused(2),
        "it was given up before it came"
    );
    assert_eq!(subject.apply(request(session, 3, 1, order(30))), applied(1));
    let alive = Command::KeepAlive {
        session,
        acknowledged_below: Seq(4),
    };
    assert_eq!(subject.apply(alive), Reply::Done);
    assert_eq!(subject.usage().requests, 0);
    assert_eq!(subject.values(), [10, 30]);
}

#[test]
fn a_session_expires_by_the_time_of_the_log_alone_and_not_before() {
    let mut subject = Subject::new();
    let ttl = Duration::from_secs(10);
    let [quiet, alive, busy] = [(); 3].map(|()| subject.open(ttl));
    let slack = MAX_STEP * 2;
    subject.pass(ttl + slack - Duration::from_millis(1));
    assert_eq!(
        subject.apply(Command::KeepAlive {
            session: alive,
            acknowledged_below: Seq(1)
        }),
        Reply::Done
    );
    assert_eq!(subject.apply(request(busy, 1, 1, order(1))), applied(0));
    assert!(subject.sessions.table().contains(quiet));
    subject.pass(Duration::from_millis(1));
    let unknown = |session| Reply::Refused(Refusal::UnknownSession(session));
    assert_eq!(subject.apply(request(quiet, 1, 1, order(2))), unknown(quiet));
    assert_eq!(subject.apply(request(busy, 1, 1, order(1))), applied(0));
    assert_eq!(subject.apply(Command::Close { session: alive }), Reply::Done);
    assert_eq!(subject.apply(Command::Close { session: alive }), unknown(alive));
    subject.pass(ttl + slack);
    assert_eq!(subject.apply(request(busy, 1, 1, order(1))), unknown(busy));
    assert_eq!(subject.values(), [1]);
    assert_eq!(subject.usage(), Usage::default());
}

#[test]
fn the_same_time_is_not_counted_twice_and_none_in_leaps() {
    let mut subject = Subject::new();
    let from = subject.sessions.table().now();
    for by in [600, 700] {
        subject.apply(Command::Advance {
            from,
            by: Duration::from_millis(by),
        });
    }
    assert_eq!(
        subject.sessions.table().now(),
        Moment(600),
        "two leaders measured it at once"
    );
    let from = subject.sessions.table().now();
    subject.apply(Command::Advance {
        from,
        by: Duration::from_secs(3600),
    });
    assert_eq!(subject.sessions.table().now(), Moment(1600));
}

#[test]
fn only_a_leader_with_sessions_proposes_that_time_passes() {
    let mut subject = Subject::new();
    let passed = Duration::from_millis(500);
    assert!(subject.sessions.upkeep(passed).is_empty());
    subject.open(LONG);
    let [Command::Advance { from, by }] = subject.sessions.upkeep(passed)[..] else {
        panic!("time passes");
    };
    assert_eq!((from, by), (Moment(0), passed));
}

#[test]
fn the_leaders_limits_are_proposed_until_they_hold() {
    let limits = SessionLimits {
        max_sessions: 1,
        ..SessionLimits::default()
    };
    let mut subject = Subject::new();
    subject.sessions = Sessions::new(Typed::default(), limits);
    let upkeep = subject.sessions.upkeep(Duration::ZERO);
    assert!(matches!(upkeep[..], [Command::Configure(wanted)] if wanted == limits));
    subject.apply(Command::Configure(limits));
    assert!(subject.sessions.upkeep(Duration::ZERO).is_empty());
    subject.open(LONG);
    let refused = subject.apply(Command::Open {
        ttl: TimeToLive::new(LONG),
    });
    assert_eq!(refused, Reply::Refused(Refusal::TooManySessions { max: 1 }));
}

#[test]
fn a_request_too_far_ahead_waits_and_the_first_is_never_kept_out() {
    let mut subject = Subject::with_limits(SessionLimits {
        max_unacknowledged: 4,
        ..SessionLimits::default()
    });
    let session = subject.open(LONG);
    for seq in 2..=4 {
        assert!(matches!(
            subject.apply(request(session, seq, 1, order(seq))),
            Reply::Applied(_)
        ));
    }
    let ahead = request(session, 5, 1, order(5));
    let beyond = Refusal::BeyondWindow {
        seq: Seq(5),
        end: Seq(5),
    };
    assert_eq!(subject.apply(ahead.clone()), Reply::Refused(beyond));
    assert_eq!(subject.apply(request(session, 1, 1, order(1))), applied(3));
    assert_eq!(subject.apply(ahead), Reply::Refused(beyond));
    assert_eq!(subject.apply(request(session, 5, 2, order(5))), applied(4));
    assert_eq!(subject.values(), [2, 3, 4, 1, 5]);
}

#[test]
fn responses_beyond_the_bounds_are_not_kept_but_nothing_is_applied_twice() {
    let limits = SessionLimits {
        max_session_bytes: 300,
        max_bytes: 500,
        ..SessionLimits::default()
    };
    let mut subject = Subject::with_limits(limits);
    let sessions = [(); 3].map(|()| subject.open(LONG));
    let large = |value| Order {
        value,
        response_bytes: 200,
    };
    for (value, session) in (0..).zip(sessions) {
        for seq in 1..=2 {
            let reply = subject.apply(request(session, seq, 1, large(value * 10 + seq)));
            assert!(
                matches!(reply, Reply::Applied(_)),
                "the first time all is well: {reply:?}"
            );
        }
    }
    assert!(subject.usage().bytes <= limits.max_bytes);
    assert_eq!(subject.usage().requests, 6);
    let mut repeat = |session: usize, seq| subject.apply(request(sessions[session], seq, 1, large(99)));
    assert!(matches!(repeat(0, 1), Reply::Applied((0, _))));
    assert_eq!(
        repeat(0, 2),
        Reply::Refused(Refusal::ResponseNotKept),
        "the session's bytes are used up"
    );
    assert!(matches!(repeat(1, 1), Reply::Applied((2, _))));
    assert_eq!(
        repeat(2, 1),
        Reply::Refused(Refusal::ResponseNotKept),
        "all bytes are used up"
    );
    assert_eq!(subject.values(), [1, 2, 11, 12, 21, 22]);

    subject.apply(Command::Close { session: sessions[0] });
    let fits = subject.apply(request(sessions[2], 3, 3, large(23)));
    assert_eq!(
        subject.apply(request(sessions[2], 3, 3, large(23))),
        fits,
        "there is room again"
    );
    sessions[1..]
        .iter()
        .for_each(|session| drop(subject.apply(Command::Close { session: *session })));
    assert_eq!(subject.usage(), Usage::default());
}

#[test]
fn a_table_that_would_be_another_is_refused_when_it_is_restored() {
    let mut subject = Subject::new();
    let session = subject.open(LONG);
    subject.apply(request(session, 1, 1, order(1)));
    let whole: Vec<u8> = subject.snapshot(1 << 20).concat();
    let restore = |bytes: &[u8]| machine().restore(&mut [Ok(Bytes::copy_from_slice(bytes))].into_iter());
    assert!(restore(&whole).is_ok());
    for length in 0..whole.len() - 1 {
        assert!(
            matches!(restore(&whole[..length]), Err(RestoreError::Invalid(_))),
            "cut at {length}"
        );
    }
    let mut newer = whole.clone();
    newer[8] = 2;
    assert!(restore(&newer).unwrap_err().to_string().contains("version 2"));
    let plain = Typed::<Journal>::default().restore(&mut [Ok(Bytes::from(whole))].into_iter());
    assert!(
        plain.is_err(),
        "a machine without sessions does not take it for its own"
    );
    let unreadable = machine().restore(&mut [Err(io::Error::other("bad sector"))].into_iter());
    assert!(matches!(unreadable, Err(RestoreError::Read(_))));
}

/// One command of each kind, in the order of their numbers.
fn commands() -> Vec<Command<Bytes>> {
    let session = SessionId(0x1122);
    vec![
        Command::Plain(Bytes::from_static(b"put")),
        Command::Open {
            ttl: TimeToLive::new(Duration::from_secs(30)),
        },
        Command::Apply {
            session,
            seq: Seq(7),
            acknowledged_below: Seq(5),
            command: Bytes::from_static(b"put"),
        },
        Command::KeepAlive {
            session,
            acknowledged_below: Seq(8),
        },
        Command::Close { session },
        Command::Advance {
            from: Moment(1000),
            by: Duration::from_millis(500),
        },
        Command::Configure(SessionLimits::default()),
    ]
}

/// What is written is what was always written: logs and snapshots outlive the program.
#[test]
fn the_formats_are_those_of_version_1() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines = String::new();
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(Command::decode(bytes.clone()), Ok(command.clone()));
        lines += &format!("# {command:?}\n{}\n", hex(&bytes));
    }
    let mut subject = Subject::with_limits(SessionLimits {
        max_session_bytes: 40,
        ..SessionLimits::default()
    });
    let first = subject.open(Duration::from_secs(30));
    subject.open(LONG);
    subject.pass(Duration::from_millis(1500));
    subject.apply(request(first, 3, 2, order(1)));
    subject.apply(request(
        first,
        5,
        2,
        Order {
            value: 2,
            response_bytes: 50,
        },
    ));
    let snapshot = subject.snapshot(1 << 20);
    lines += &format!("# a snapshot's table of sessions\n{}\n", hex(&snapshot[0]));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sessions-v1.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    assert_eq!(
        lines,
        std::fs::read_to_string(&path).unwrap(),
        "what is written has changed"
    );
}

#[test]
fn what_is_no_command_of_sessions_is_named() {
    let decode = |bytes: &'static [u8]| Command::decode(Bytes::from_static(bytes));
    assert_eq!(decode(b""), Err(CommandError::Short));
    assert_eq!(decode(b"\x01"), Err(CommandError::Short));
    assert_eq!(decode(b"\x01\x05\x00"), Err(CommandError::Short));
    assert_eq!(decode(b"\x02\x01"), Err(CommandError::Version(2)));
    assert_eq!(decode(b"\x01\x08"), Err(CommandError::Kind(8)));
    assert_eq!(
        decode(b"\x01\x05\x01\0\0\0\0\0\0\0+"),
        Err(CommandError::TooLong(1))
    );
}

proptest! {
    #[test]
    fn random_bytes_are_commands_or_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        kind in 0..9_u8,
    ) {
        let mut subject = Subject::new();
        let mut framed = vec![1, kind];
        framed.extend(&bytes);
        for bytes in [bytes, framed] {
            let bytes = Bytes::from(bytes);
            if let Ok(command) = Command::decode(bytes.clone()) {
                prop_assert_eq!(Command::decode(command.encode()), Ok(command));
            }
            subject.index += 1;
            let _ = subject.sessions.apply(EntryId::new(Index(subject.index), Term(1)), bytes);
        }
    }

    #[test]
    fn random_bytes_are_a_table_or_are_refused(
        at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..20),
        max_bytes in 1..300_usize,
    ) {
        let mut subject = Subject::new();
        let session = subject.open(LONG);
        subject.apply(request(session, 1, 1, order(1)));
        let mut bytes: Vec<u8> = subject.snapshot(1 << 20).concat();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + noise.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        let mut chunks = bytes.chunks(max_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        if machine().restore(&mut chunks).is_err() {
            return Ok(());
        }
        // What was taken can be used.
        let mut chunks = bytes.chunks(max_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        subject.sessions.restore(&mut chunks).unwrap();
        subject.index = u64::MAX / 2;
        subject.apply(request(session, 1, 1, order(1)));
        for index in 0..=1 {
            subject.index = index;
            subject.apply(Command::Open { ttl: TimeToLive::MIN });
        }
        subject.apply(Command::Close { session });
        subject.pass(LONG);
    }
}
