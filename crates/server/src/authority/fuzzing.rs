//! What a connection's reader gets, for the fuzz targets.

use super::frames::Frames;

/// What is handed on of a connection that arrives in these pieces.
#[must_use]
pub fn mended<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut frames, mut out) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.push(piece, &mut out);
    }
    frames.give_up(&mut out);
    out
}
