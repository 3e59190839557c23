//! A segment file that is being read at open: its header checked, nothing changed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{DiskFile, OpenMode, read_exact_at};
use crate::error::{OpenError, damaged};
use crate::layout::{BadHeader, DATA_START, SEGMENT_HEADER, SegmentHeader, SegmentId, VERSION};
use crate::segment::{SegmentDir, Trying};
use crate::tail::Window;

/// A segment whose header has been checked.
pub(crate) struct OpenSegment {
    pub(crate) id: SegmentId,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// The file's length now.
    pub(crate) length: u64,
}

impl OpenSegment {
    pub(crate) fn open(dir: &SegmentDir, id: SegmentId) -> Result<OpenSegment, OpenError> {
        let path = dir.file_of(id);
        let file = dir.disk.open(&path, OpenMode::ReadWrite).trying("open", &path)?;
        let length = file.len().trying("read", &path)?;
        let mut bytes = [0; SEGMENT_HEADER];
        if length < DATA_START {
            return Err(damaged(path, length, "the file ends inside its first block"));
        }
        read_exact_at(&*file, 0, &mut bytes).trying("read", &path)?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => header,
            Err(BadHeader::Newer(found)) => {
                return Err(OpenError::NewerVersion {
                    file: path,
                    found,
                    supported: VERSION,
                });
            }
            Err(BadHeader::NotASegment) => return Err(damaged(path, 0, "it does not begin like a segment")),
            Err(BadHeader::Checksum) => return Err(damaged(path, 0, "the checksum of its header is wrong")),
            Err(BadHeader::Nonsense) => return Err(damaged(path, 0, "its header makes no sense")),
        };
        if header.segment != id {
            let what = format!("its header says that it is segment {:08x}", header.segment.0);
            return Err(damaged(path, 0, what));
        }
        Ok(OpenSegment {
            id,
            header,
            file,
            path,
            length,
        })
    }

    pub(crate) fn window(&self) -> Window {
        Window::new(self.file.clone(), self.length.min(self.header.length))
    }
}
