//! The peer protocol's bytes: they come back as they were, and whatever else comes is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "small numbers, named frames"
)]

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate::codec::frame::{
    self, ClusterId, HEADER_BYTES, Hello, Incarnation, MAX_BODY_BYTES, Refusal, SnapshotOffer, StreamKind,
    Welcome,
};
use quorate::codec::{DecodeError, Frame};
use quorate_raft::message::*;
use quorate_raft::*;

fn encoded(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::encode(frame, &mut bytes);
    bytes
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

fn configuration() -> Arc<Configuration> {
    Arc::new(Configuration::joint([NodeId(1), NodeId(2)], [NodeId(1), NodeId(3)], [NodeId(4)]).unwrap())
}

fn envelope(message: Message) -> Envelope {
    Envelope {
        group: GroupId(1),
        from: NodeId(2),
        to: NodeId(3),
        term: Term(7),
        message,
    }
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        id: id(40, 6),
        configuration: configuration(),
    }
}

fn append() -> AppendEntries {
    let entry = |index, term, payload| Entry {
        id: id(index, term),
        payload,
    };
    let entries = vec![
        entry(10, 6, Payload::Noop),
        entry(11, 6, Payload::Command(Bytes::from_static(b"put a"))),
        entry(12, 7, Payload::Configuration(configuration())),
        entry(13, 7, Payload::Command(Bytes::new())),
    ];
    AppendEntries {
        slice: LogSlice::new(id(9, 5), entries).unwrap(),
        commit: Index(9),
    }
}

/// One message of each kind, and of each outcome.
fn messages() -> Vec<Message> {
    let mut messages = pre_votes_and_logs();
    messages.extend(others());
    messages
}

fn pre_votes_and_logs() -> Vec<Message> {
    let pre_vote = |verdict| {
        Message::PreVoteResponse(PreVoteResponse {
            term: Term(8),
            verdict,
        })
    };
    vec![
        Message::RequestPreVote(RequestPreVote {
            term: Term(8),
            last: id(9, 5),
        }),
        pre_vote(PreVerdict::Granted),
        pre_vote(PreVerdict::HasLeader),
        pre_vote(PreVerdict::MoreUpToDate(id(13, 7))),
        pre_vote(PreVerdict::TermPassed),
        Message::FetchLog(id(9, 5)),
        Message::LogSuffix(LogSuffix::Entries(append().slice)),
        Message::LogSuffix(LogSuffix::Unknown {
            prev: id(9, 5),
            hint: id(4, 2),
        }),
    ]
}

fn others() -> Vec<Message> {
    let read = ReadId {
        session: Session(5),
        seq: 9,
    };
    let forwarded = |outcome| {
        Message::ForwardResponse(ForwardResponse {
            session: Session(5),
            seq: 8,
            outcome,
        })
    };
    let campaign = |cause| {
        Message::RequestVote(RequestVote {
            last: id(9, 5),
            cause,
        })
    };
    let read_answer = |outcome| Message::ReadIndexResponse(ReadIndexResponse { id: read, outcome });
    vec![
        campaign(Campaign::Timeout),
        campaign(Campaign::Transfer),
        Message::VoteResponse(Verdict::Granted),
        Message::VoteResponse(Verdict::Denied),
        Message::AppendEntries(append()),
        Message::AppendEntriesResponse(AppendEntriesResponse::Accepted {
            match_index: Index(13),
        }),
        Message::AppendEntriesResponse(AppendEntriesResponse::Rejected {
            prev: id(9, 5),
            hint: id(4, 2),
        }),
        Message::Heartbeat(Heartbeat {
            commit: Index(12),
            round: Round(3),
        }),
        Message::HeartbeatResponse(HeartbeatResponse {
            round: Round(3),
            verified: Index(13),
        }),
        Message::Commit(Index(13)),
        Message::InstallSnapshot(meta()),
        Message::TimeoutNow,
        Message::StaleTerm,
        Message::Forward(Forward {
            session: Session(5),
            seq: 8,
            commands: vec![Bytes::from_static(b"put b"), Bytes::new()],
        }),
        forwarded(Forwarded::Appended { first: Index(14) }),
        forwarded(Forwarded::Refused),
        forwarded(Forwarded::Overloaded),
        Message::ReadIndex(read),
        read_answer(ReadOutcome::Ready(Index(13))),
        read_answer(ReadOutcome::Refused),
    ]
}

/// Frames of each kind.
fn frames() -> Vec<Frame> {
    let mut frames = frames_of_version_1();
    frames.extend(frames_new_in_version_2());
    frames
}

fn frames_new_in_version_2() -> Vec<Frame> {
    vec![
        Frame::Ping { number: 300 },
        Frame::Pong { number: 300 },
        Frame::Refusal(Refusal {
            reason: "you are no member".to_owned(),
            removed: true,
        }),
    ]
}

fn frames_of_version_1() -> Vec<Frame> {
    let incarnation = Incarnation(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let hello = |stream| {
        Frame::Hello(Hello {
            version: 1,
            oldest_version: 1,
            cluster: ClusterId(0xcafe),
            from: NodeId(2),
            to: NodeId(3),
            incarnation,
            stream,
        })
    };
    let mut frames = vec![
        hello(StreamKind::Messages),
        hello(StreamKind::Bulk),
        Frame::Welcome(Welcome {
            version: 1,
            incarnation,
        }),
        Frame::Refusal(Refusal {
            reason: "you are of cluster 1".to_owned(),
            removed: false,
        }),
        Frame::SnapshotOffer(SnapshotOffer {
            announcement: envelope(Message::InstallSnapshot(meta())),
            chunks: 3,
            life: 0xfeed,
        }),
        Frame::SnapshotResume { next: 2 },
        Frame::SnapshotChunk {
            number: 2,
            data: Bytes::from_static(b"chunk"),
        },
        Frame::SnapshotDone,
    ];
    frames.extend(
        messages()
            .into_iter()
            .map(|message| Frame::Message(envelope(message))),
    );
    frames
}

#[test]
fn each_frame_comes_back_from_its_bytes() {
    for frame in frames() {
        let mut bytes = encoded(&frame);
        assert_eq!(frame::decode(&mut bytes, MAX_BODY_BYTES).unwrap(), Some(frame));
        assert!(bytes.is_empty());
    }
}

#[test]
fn frames_in_one_buffer_come_out_one_by_one() {
    let mut bytes = BytesMut::new();
    for frame in frames() {
        frame::encode(&frame, &mut bytes);
    }
    for frame in frames() {
        assert_eq!(frame::decode(&mut bytes, MAX_BODY_BYTES).unwrap(), Some(frame));
    }
    assert_eq!(frame::decode(&mut bytes, MAX_BODY_BYTES).unwrap(), None);
}

#[test]
fn a_frame_that_is_cut_is_waited_for() {
    for frame in frames() {
        let bytes = encoded(&frame);
        for length in 0..bytes.len() {
            let mut cut = BytesMut::from(&bytes[..length]);
            assert_eq!(frame::decode(&mut cut, MAX_BODY_BYTES).unwrap(), None);
            assert_eq!(cut.len(), length, "what is not complete stays");
        }
    }
}

#[test]
fn a_frame_with_any_bit_flipped_is_never_taken_for_a_frame() {
    for frame in frames() {
        let bytes = encoded(&frame);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A flipped length may make it wait for more.
            let decoded = frame::decode(&mut flipped, MAX_BODY_BYTES);
            assert!(!matches!(decoded, Ok(Some(_))), "{}: bit {bit}", frame.name());
        }
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused_by_its_header() {
    let bytes = encoded(&Frame::SnapshotChunk {
        number: 0,
        data: Bytes::from(vec![0; 100]),
    });
    let mut header = BytesMut::from(&bytes[..HEADER_BYTES]);
    let refused = frame::decode(&mut header, 99);
    assert!(matches!(refused, Err(DecodeError::TooLarge { max: 99, .. })));
}

#[test]
fn what_is_no_frame_is_refused_by_its_first_bytes() {
    let mut http = BytesMut::from("GET");
    let refused = frame::decode(&mut http, MAX_BODY_BYTES);
    assert_eq!(refused, Err(DecodeError::Magic(*b"GET\0")));
}

#[test]
fn entries_of_falling_terms_are_refused() {
    // A slice cannot be built so: the bytes are those of a good one, with the first term raised.
    let good = encoded(&Frame::Message(envelope(Message::AppendEntries(append()))));
    let body = &good[HEADER_BYTES..];
    let at = body
        .windows(4)
        .position(|w| w == [0x08, 6, 0x22, 0])
        .expect("the no-op of term 6");
    let mut bad = body.to_vec();
    bad[at + 1] = 9;
    let mut bytes = reframed(&good, &bad);
    let refused = frame::decode(&mut bytes, MAX_BODY_BYTES);
    assert!(matches!(refused, Err(DecodeError::Slice(_))), "{refused:?}");
}

/// A frame of the kind of `like` with another body, and the checksum that belongs to it.
fn reframed(like: &[u8], body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(&like[..HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), body);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn commands_of_any_size_come_back(
        sizes in prop::collection::vec(0..40_000_usize, 0..5),
        prev in any::<u32>(),
        commit in any::<u64>(),
    ) {
        let entries = (1_u64..).zip(&sizes).map(|(n, size)| Entry {
            id: id(u64::from(prev) + n, 3),
            payload: Payload::Command(vec![n as u8; *size].into()),
        });
        let slice = LogSlice::new(id(prev.into(), 3), entries.collect()).unwrap();
        let message = Message::AppendEntries(AppendEntries { slice, commit: Index(commit) });
        let frame = Frame::Message(envelope(message));
        let decoded = frame::decode(&mut encoded(&frame), MAX_BODY_BYTES).unwrap();
        prop_assert_eq!(decoded, Some(frame));
    }

    #[test]
    fn random_bytes_are_refused_or_waited_for(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame::decode(&mut BytesMut::from(&bytes[..]), MAX_BODY_BYTES);
    }

    #[test]
    fn random_bodies_in_good_frames_never_panic(
        kind in 0..14_u8,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut like = encoded(&Frame::SnapshotDone);
        like[4] = kind;
        let _ = frame::decode(&mut reframed(&like, &body), MAX_BODY_BYTES);
    }

    #[test]
    fn mangled_bodies_in_good_frames_never_panic(
        which in any::<usize>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let frames = frames();
        let good = encoded(&frames[which % frames.len()]);
        let mut body = good[HEADER_BYTES..].to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = frame::decode(&mut reframed(&good, &body), MAX_BODY_BYTES);
    }
}

/// A version that does not know of removals reads the sentence; this one takes what such a version says for no removal.
#[test]
fn a_refusal_says_whether_the_node_was_removed() {
    let refusal = |removed| Refusal {
        reason: "you are no member".to_owned(),
        removed,
    };
    for removed in [false, true] {
        let frame = Frame::Refusal(refusal(removed));
        let decoded = frame::decode(&mut encoded(&frame), MAX_BODY_BYTES).unwrap();
        assert_eq!(decoded, Some(frame));
    }
    let [before, with] = [false, true].map(|removed| encoded(&Frame::Refusal(refusal(removed))));
    assert_eq!(
        with[HEADER_BYTES..][..before.len() - HEADER_BYTES],
        before[HEADER_BYTES..]
    );
}

/// A released format never changes: what one version writes, every later one reads.
///
/// `UPDATE_GOLDEN=1 cargo test` writes the files anew, for a new version of the protocol.
#[test]
fn each_version_of_the_protocol_is_as_it_was_released() {
    check_golden("frames-v1.txt", &frames_of_version_1());
    check_golden("frames-v2.txt", &frames_new_in_version_2());
}

fn check_golden(file: &str, frames: &[Frame]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = |frame: &Frame| match frame {
        Frame::Message(envelope) => format!("# {}\n{}\n", envelope.message, hex(&encoded(frame))),
        frame => format!("# {}\n{}\n", frame.name(), hex(&encoded(frame))),
    };
    let lines: String = frames.iter().map(line).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(lines, golden, "what is written has changed");
    for (line, frame) in golden.lines().filter(|line| !line.starts_with('#')).zip(frames) {
        let bytes: Vec<u8> = (0..line.len())
            .step_by(2)
            .map(|n| u8::from_str_radix(&line[n..n + 2], 16).unwrap())
            .collect();
        let decoded = frame::decode(&mut BytesMut::from(&bytes[..]), MAX_BODY_BYTES).unwrap();
        assert_eq!(
            decoded.as_ref(),
            Some(frame),
            "what was written is read as something else"
        );
    }
}
