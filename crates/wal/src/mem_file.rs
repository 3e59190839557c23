//! The bytes of one file of a [`crate::MemDisk`]: what is cached, what is durable, and what a crash makes
//! of the two.

use std::collections::{BTreeMap, BTreeSet};

/// The unit in which writes reach the disk: whole or not at all.
pub const SECTOR: u64 = 512;

type Sector = [u8; 512];
const ZERO: Sector = [0; 512];
const _: () = assert!(ZERO.len() as u64 == SECTOR);

/// One file's bytes. A sector that is nowhere is zero.
#[derive(Clone, Default)]
pub(crate) struct FileState {
    durable: BTreeMap<u64, Sector>,
    durable_len: u64,
    /// What each sector has held since the last sync, oldest first.
    pending: BTreeMap<u64, Vec<Sector>>,
    pending_len: Vec<u64>,
    /// What a sync that failed did not make durable, and no later one will.
    given_up: BTreeMap<u64, Sector>,
}

impl FileState {
    pub(crate) fn len(&self) -> u64 {
        self.pending_len.last().copied().unwrap_or(self.durable_len)
    }

    fn sector(&self, number: u64) -> &Sector {
        let pending = self.pending.get(&number).and_then(|versions| versions.last());
        let cached = pending.or_else(|| self.given_up.get(&number));
        cached.or_else(|| self.durable.get(&number)).unwrap_or(&ZERO)
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = clamp(self.len().saturating_sub(offset), buf.len());
        for part in parts(offset, len) {
            buf[part.buf].copy_from_slice(&self.sector(part.sector)[part.within]);
        }
        len
    }

    pub(crate) fn write(&mut self, offset: u64, buf: &[u8]) {
        for part in parts(offset, buf.len()) {
            let mut sector = *self.sector(part.sector);
            sector[part.within].copy_from_slice(&buf[part.buf]);
            self.pending.entry(part.sector).or_default().push(sector);
        }
        let end = offset + buf.len() as u64;
        if end > self.len() {
            self.pending_len.push(end);
        }
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        let old = self.len();
        if len < old {
            self.zero(len, old);
        }
        if len != old {
            self.pending_len.push(len);
        }
    }

    /// What lies past a cut must read as zero if the file grows again.
    fn zero(&mut self, from: u64, to: u64) {
        let written = self
            .durable
            .keys()
            .chain(self.pending.keys())
            .chain(self.given_up.keys());
        for number in written.copied().collect::<BTreeSet<u64>>() {
            let start = from.max(number * SECTOR);
            let end = to.min((number + 1) * SECTOR);
            if start < end {
                self.write(start, &ZERO[..clamp(end - start, ZERO.len())]);
            }
        }
    }

    pub(crate) fn sync(&mut self) {
        for number in self.pending.keys() {
            self.given_up.remove(number);
        }
        self.settle(&mut |choices| choices - 1);
    }

    pub(crate) fn give_up_sync(&mut self) {
        for (number, mut versions) in std::mem::take(&mut self.pending) {
            self.given_up.extend(versions.pop().map(|last| (number, last)));
        }
    }

    pub(crate) fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for (number, sector) in std::mem::take(&mut self.given_up) {
            if choose(2) == 1 {
                self.durable.insert(number, sector);
            }
        }
        self.settle(choose);
    }

    fn settle(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for (number, versions) in std::mem::take(&mut self.pending) {
            if let Some(kept) = choose(versions.len() + 1).checked_sub(1) {
                self.durable.insert(number, versions[kept]);
            }
        }
        let lens = std::mem::take(&mut self.pending_len);
        if !lens.is_empty()
            && let Some(kept) = choose(lens.len() + 1).checked_sub(1)
        {
            self.durable_len = lens[kept];
        }
    }

    pub(crate) fn flip(&mut self, offset: u64, mask: u8) {
        let number = offset / SECTOR;
        let within = clamp(offset % SECTOR, ZERO.len());
        self.durable.entry(number).or_insert(ZERO)[within] ^= mask;
        let pending = self.pending.get_mut(&number).into_iter().flatten();
        for version in pending.chain(self.given_up.get_mut(&number)) {
            version[within] ^= mask;
        }
    }
}

struct Part {
    sector: u64,
    within: std::ops::Range<usize>,
    buf: std::ops::Range<usize>,
}

/// Cuts a range of a file at the borders of sectors.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = clamp(at % SECTOR, ZERO.len());
        let size = (ZERO.len() - start).min(len - done);
        let part = Part {
            sector: at / SECTOR,
            within: start..start + size,
            buf: done..done + size,
        };
        done += size;
        Some(part)
    })
}

fn clamp(value: u64, limit: usize) -> usize {
    usize::try_from(value).map_or(limit, |value| value.min(limit))
}
