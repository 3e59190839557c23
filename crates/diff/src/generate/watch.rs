//! Watchers.

use bytes::Bytes;

use super::{kv, revision};
use crate::call::{Call, Keys, Rev, Stream, Watch};
use crate::rng::Rng;

pub(super) fn call(rng: &mut Rng) -> Call {
    let stream = rng.pick(&Stream::ALL);
    match rng.below(12) {
        0..7 => Call::Watch(watch(rng, stream)),
        7..11 => Call::CancelWatch {
            stream,
            id: rng.pick(&[0, 1, 2, 3, 4, 5, 6, 7, -1, -7, 99]),
        },
        _ => Call::Progress(stream),
    }
}

fn watch(rng: &mut Rng, stream: Stream) -> Watch {
    Watch {
        stream,
        id: rng.pick(&[0, 0, 0, 0, 0, 1, 2, 3, 7, -7]),
        keys: match rng.below(6) {
            0 => Keys {
                key: Bytes::new(),
                range_end: Bytes::from_static(rng.pick(&[b"" as &[u8], b"\0", b"b"])),
            },
            _ => kv::keys(rng),
        },
        start: match rng.one_in(2) {
            true => Rev::Exactly(0),
            false => revision(rng),
        },
        filters: match rng.below(8) {
            0 => vec![0],
            1 => vec![1],
            2 => rng.pick(&[vec![0, 1], vec![0, 0], vec![2], vec![-1, 1]]),
            _ => Vec::new(),
        },
        prev_kv: rng.one_in(2),
        fragment: rng.one_in(2),
        progress_notify: rng.one_in(4),
    }
}
