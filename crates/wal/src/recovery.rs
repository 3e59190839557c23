//! Opening a log: what is there, what may be cut, what is damage.
//!
//! Frame by frame, in order. The frame that is due is known by its number, by its chain to the one
//! before, and by its place, so nothing else can stand in for it. If it is not whole:
//!
//! | | the frame that is due | later in its segment | verdict |
//! |---|---|---|---|
//! | 1 | whole | | taken |
//! | 2 | not whole, in a segment that has a successor | | damaged: a segment is begun when all before is durable |
//! | 3 | not whole | something written when this frame was durable | damaged |
//! | 4 | readable parts contradict each other | | damaged: each place is written once |
//! | 5 | unreadable in sectors that hold a readable part of it, and not blank from there on | | damaged: sectors are written whole or not at all |
//! | 6 | not whole otherwise | parts of it or of later frames | unfinished tail: cut |
//! | 7 | no trace | nothing | the end |
//!
//! Reading changes nothing. Once the verdict is known, [`Recovery::settle`] makes it durable before
//! anything is appended: frames that may be in the cache only are written again and synced, and unless
//! the rest of the last segment is blank a new one is begun, whose header says where the log ends. So
//! remains of a cut tail are never looked at again.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;

use crate::error::{OpenError, damaged};
use crate::frame::{Cause, Found, open_frame};
use crate::index::{Effect, Index, Location};
use crate::layout::{DATA_START, Footer, FrameHeader, Kind, Place, SECTOR, SegmentHeader, SegmentId, size};
use crate::open_segment::OpenSegment;
use crate::record::{Cut, LogId};
use crate::segment::{Listing, SegmentDir, Trying};
use crate::tail::{Tail, Window};
use crate::traces::{Traces, footer_of};

/// What the files say, not yet made durable.
pub(crate) struct Recovery {
    pub(crate) wal_id: u128,
    pub(crate) index: Index,
    /// The number of the next frame.
    pub(crate) next_frame: u64,
    /// Stands for the last frame.
    pub(crate) chain: u32,
    pub(crate) cut: Option<Cut>,
    pub(crate) tail: Option<Tail>,
    /// Segments before the first that is needed, which a crash kept from being let go.
    pub(crate) leftovers: Vec<SegmentId>,
}

impl Recovery {
    /// A log that does not exist yet.
    pub(crate) fn of_nothing(wal_id: u128) -> Recovery {
        let index = Index::default();
        Recovery {
            wal_id,
            index,
            next_frame: 1,
            chain: 0,
            cut: None,
            tail: None,
            leftovers: Vec::new(),
        }
    }
}

/// Reads the whole log. `None` if the directory holds none.
pub(crate) fn read(dir: &SegmentDir, listing: &Listing) -> Result<Option<Recovery>, OpenError> {
    let (leftovers, needed) = listing.split_at_gap();
    let mut segments = Vec::new();
    for segment in needed {
        segments.push(OpenSegment::open(dir, *segment)?);
    }
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return if listing.has_spares() {
            Err(missing(dir.path.clone()))
        } else {
            Ok(None)
        };
    };
    let lowest = first.id;
    let mut replay = Replay::starting_with(dir, &first.header);
    for pair in segments.windows(2) {
        replay.earlier_segment(&pair[0], &pair[1].header)?;
    }
    let (tail, cut) = replay.last_segment(last)?;
    if lowest > replay.floor {
        return Err(missing(dir.file_of(SegmentId(lowest.0 - 1))));
    }
    replay.index.check().map_err(|(group, gap)| {
        let what = format!(
            "group {group} begins with entry {} but follows {}",
            gap.index, gap.last
        );
        damaged(dir.file_of(lowest), DATA_START, what)
    })?;
    replay.index.segments = segments
        .iter()
        .map(|segment| (segment.id, segment.file.clone()))
        .collect();
    let Replay {
        wal_id,
        index,
        next_frame,
        chain,
        ..
    } = replay;
    let leftovers = leftovers.to_vec();
    Ok(Some(Recovery {
        wal_id,
        index,
        next_frame,
        chain,
        cut,
        tail: Some(tail),
        leftovers,
    }))
}

/// Where in the sequence of frames the replay is.
struct Replay<'a> {
    dir: &'a SegmentDir,
    wal_id: u128,
    index: Index,
    next_frame: u64,
    chain: u32,
    /// The lowest segment needed, as the last header says.
    floor: SegmentId,
    /// Number and place of the frames that no later one says were durable.
    unsynced: VecDeque<(u64, u64)>,
}

/// Why the frame that is due is not whole.
struct Broken {
    what: &'static str,
    offset: u64,
    cause: Cause,
}

enum Due {
    Whole { length: u64 },
    Broken(Broken),
}

impl Replay<'_> {
    fn starting_with<'a>(dir: &'a SegmentDir, first: &SegmentHeader) -> Replay<'a> {
        Replay {
            dir,
            wal_id: first.wal_id,
            index: Index::default(),
            next_frame: first.first_frame,
            chain: first.chain,
            floor: first.floor,
            unsynced: VecDeque::new(),
        }
    }

    /// A segment that has a successor, which says where this one ends.
    fn earlier_segment(&mut self, segment: &OpenSegment, next: &SegmentHeader) -> Result<(), OpenError> {
        self.enter(segment)?;
        let mut window = segment.window();
        let mut offset = DATA_START;
        while self.next_frame < next.first_frame {
            match self.take_frame(segment, &mut window, offset)? {
                Due::Whole { length } => offset += length,
                Due::Broken(broken) => return Err(damaged(segment.path.clone(), broken.offset, broken.what)),
            }
        }
        self.unsynced.clear();
        if (self.next_frame, self.chain) != (next.first_frame, next.chain) {
            let what = "the log does not continue from the segment before";
            return Err(damaged(self.dir.file_of(next.segment), 0, what));
        }
        Ok(())
    }

    /// The last segment, which ends where its frames do.
    fn last_segment(&mut self, segment: &OpenSegment) -> Result<(Tail, Option<Cut>), OpenError> {
        self.enter(segment)?;
        if segment.length < segment.header.length {
            return Err(damaged(
                segment.path.clone(),
                segment.length,
                "the file is shorter than it was made",
            ));
        }
        let mut window = segment.window();
        let mut end = DATA_START;
        let broken = loop {
            match self.take_frame(segment, &mut window, end)? {
                Due::Whole { length } => end += length,
                Due::Broken(broken) => break broken,
            }
        };
        let traces = Traces::find(self.place(segment, end), &mut window).trying("read", &segment.path)?;
        let cut = self.judge(segment, end, &broken, &traces)?;
        let rewrite_from = self.unsynced.front().map_or(end, |(_, offset)| *offset);
        let (id, file, path) = (segment.id, segment.file.clone(), segment.path.clone());
        let length = segment.header.length;
        Ok((
            Tail {
                id,
                file,
                path,
                length,
                end,
                rewrite_from,
                blank: traces.blank,
            },
            cut,
        ))
    }

    fn enter(&mut self, segment: &OpenSegment) -> Result<(), OpenError> {
        if segment.header.wal_id != self.wal_id {
            return Err(damaged(segment.path.clone(), 0, "it belongs to another log"));
        }
        self.floor = segment.header.floor;
        Ok(())
    }

    /// Rows 3 to 7 of the table.
    fn judge(
        &self,
        segment: &OpenSegment,
        end: u64,
        broken: &Broken,
        traces: &Traces,
    ) -> Result<Option<Cut>, OpenError> {
        if traces.synced >= self.next_frame {
            let what = format!("{}, and it had been durable", broken.what);
            return Err(damaged(segment.path.clone(), broken.offset, what));
        }
        match broken.cause {
            Cause::Rot => Err(damaged(segment.path.clone(), broken.offset, broken.what)),
            Cause::TornOrRot if traces.end == end => Ok(None),
            Cause::TornOrRot => Ok(Some(Cut {
                file: segment.path.clone(),
                offset: end,
                bytes: traces.end - end,
            })),
        }
    }

    /// Takes the frame that is due at `offset`, if it is whole.
    fn take_frame(
        &mut self,
        segment: &OpenSegment,
        window: &mut Window,
        offset: u64,
    ) -> Result<Due, OpenError> {
        let place = self.place(segment, offset);
        let Some(sector) = window.get(offset, SECTOR).trying("read", &segment.path)? else {
            return Ok(Due::Broken(Broken::torn("a frame is missing", offset)));
        };
        let Some(header) = FrameHeader::decode(place, sector) else {
            return Ok(Due::Broken(without_header(place, sector)));
        };
        if let Err(broken) = self.check_header(segment, offset, &header) {
            return Ok(Due::Broken(broken));
        }
        let length = u64::from(header.length);
        let Some(frame) = window.get(offset, size(length)).trying("read", &segment.path)? else {
            return Ok(Due::Broken(Broken::torn("the file ends inside a frame", offset)));
        };
        match open_frame(place, &header, frame) {
            Err(fault) => {
                let offset = offset + fault.at as u64;
                Ok(Due::Broken(Broken {
                    what: fault.what,
                    offset,
                    cause: fault.cause,
                }))
            }
            Ok(contents) => {
                self.apply_records(segment, offset, frame, &contents.records)?;
                self.advance(&header, offset, contents.next_chain);
                Ok(Due::Whole { length })
            }
        }
    }

    fn place(&self, segment: &OpenSegment, offset: u64) -> Place {
        Place {
            wal_id: self.wal_id,
            segment: segment.id,
            offset,
        }
    }

    fn check_header(&self, segment: &OpenSegment, offset: u64, header: &FrameHeader) -> Result<(), Broken> {
        let length = u64::from(header.length);
        let fits = length >= SECTOR as u64
            && length.is_multiple_of(SECTOR as u64)
            && offset + length <= segment.header.length;
        let due = header.frame == self.next_frame && header.chain == self.chain;
        if !due || header.synced >= header.frame {
            return Err(Broken::rotten(
                "this frame does not follow the one before",
                offset,
            ));
        }
        if fits {
            Ok(())
        } else {
            Err(Broken::rotten("the length of a frame is wrong", offset))
        }
    }

    fn advance(&mut self, header: &FrameHeader, offset: u64, next_chain: u32) {
        while self
            .unsynced
            .front()
            .is_some_and(|(frame, _)| *frame <= header.synced)
        {
            self.unsynced.pop_front();
        }
        self.unsynced.push_back((header.frame, offset));
        self.next_frame += 1;
        self.chain = next_chain;
        self.floor = header.floor;
    }

    fn apply_records(
        &mut self,
        segment: &OpenSegment,
        frame_offset: u64,
        frame: &[u8],
        found: &[Found],
    ) -> Result<(), OpenError> {
        for record in found {
            let offset = frame_offset + record.start as u64;
            self.index
                .apply(effect(segment.id, offset, frame, record))
                .map_err(|gap| {
                    let (group, index, last) = (record.header.group, gap.index, gap.last);
                    let what = format!("group {group}: entry {index} leaves a gap after {last}");
                    damaged(segment.path.clone(), offset, what)
                })?;
        }
        Ok(())
    }
}

/// The sector at `place` should begin with a frame header and does not.
fn without_header(place: Place, sector: &[u8]) -> Broken {
    let same_sector = |footer: &Footer| size(u64::from(footer.length)) == SECTOR;
    if footer_of(place, sector).as_ref().is_some_and(same_sector) {
        return Broken::rotten("the header of a frame is wrong", place.offset);
    }
    Broken::torn("the header of a frame is missing or wrong", place.offset)
}

impl Broken {
    fn torn(what: &'static str, offset: u64) -> Broken {
        Broken {
            what,
            offset,
            cause: Cause::TornOrRot,
        }
    }

    fn rotten(what: &'static str, offset: u64) -> Broken {
        Broken {
            what,
            offset,
            cause: Cause::Rot,
        }
    }
}

fn effect(segment: SegmentId, offset: u64, frame: &[u8], record: &Found) -> Effect {
    let header = &record.header;
    let state = (header.kind == Kind::State).then(|| Bytes::copy_from_slice(&frame[record.body.clone()]));
    let location = Location {
        segment,
        offset: u32::try_from(offset).expect("segments are at most 1 GiB"),
        length: header.length,
        body_crc: header.body_crc,
    };
    let id = LogId::new(header.index, header.term);
    Effect {
        kind: header.kind,
        group: header.group,
        id,
        location,
        state,
    }
}

fn missing(file: PathBuf) -> OpenError {
    damaged(file, 0, "a segment is missing")
}
