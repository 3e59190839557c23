//! What a log holds behind its last whole frame: the remains of frames that were being written.

use std::io;

use crate::layout::{FOOTER, Footer, FrameHeader, Place, SECTOR};
use crate::tail::Window;

/// What is left behind the last whole frame.
pub(crate) struct Traces {
    /// The end of the last sector that holds a header or a footer of this segment.
    pub(crate) end: u64,
    /// The highest frame that was durable when any of them was written.
    pub(crate) synced: u64,
    /// Whether there is nothing but zeros.
    pub(crate) blank: bool,
}

impl Traces {
    /// Looks for headers and footers of this segment from `from` on; frames begin and end at borders of
    /// sectors, so these are the only places.
    pub(crate) fn find(from: Place, window: &mut Window) -> io::Result<Traces> {
        let mut traces = Traces {
            end: from.offset,
            synced: 0,
            blank: true,
        };
        let mut place = from;
        while let Some(sector) = window.get(place.offset, SECTOR)? {
            traces.look_at(place, sector);
            place = place.plus(SECTOR);
        }
        Ok(traces)
    }

    fn look_at(&mut self, place: Place, sector: &[u8]) {
        if sector == BLANK {
            return;
        }
        self.blank = false;
        let header = FrameHeader::decode(place, sector).map(|header| header.synced);
        let footer = footer_of(place, sector).map(|footer| footer.synced);
        if let Some(synced) = header.max(footer) {
            self.end = place.plus(SECTOR).offset;
            self.synced = self.synced.max(synced);
        }
    }
}

const BLANK: &[u8] = &[0; SECTOR];

/// The footer that ends the sector at `place`, if there is one.
pub(crate) fn footer_of(place: Place, sector: &[u8]) -> Option<Footer> {
    let at = SECTOR - FOOTER;
    Footer::decode(place.plus(at), &sector[at..])
}
