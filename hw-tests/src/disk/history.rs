//! What happened to a disk, in order, and what a cut at any moment leaves of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::image::Image;
use crate::random::Random;

/// Operations that are remembered at most.
const OPERATIONS_MAX: usize = 2_000_000;

/// Bytes of writes that are remembered at most.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// `len` bytes at `at` of the disk; they stand at `stored` in the file of contents.
    Write {
        at: u64,
        len: u32,
        stored: u64,
    },
    Flush,
}

/// Writes and flushes in the order in which the disk had them. A *moment* is the number of
/// operations before it.
#[derive(Debug)]
pub struct History {
    operations: Vec<Operation>,
    contents: File,
    stored: u64,
}

/// What becomes of the sectors that no flush covers: which are there after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tear {
    /// What the disk writes whole or not at all.
    pub sector_bytes: u64,
    /// Which of them stay.
    pub keep: Keep,
}

/// Which of the sectors that no flush covers are there after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None: the disk had all of them in its cache.
    None,
    /// All, as if the power had stayed until they were written.
    All,
    /// Each with this chance in 256, whatever became of those before it.
    Some(u8),
}

impl Keep {
    /// One of them, all kinds likely.
    pub fn any(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::None,
            1 => Self::All,
            2 => Self::Some(230),
            3 => Self::Some(26),
            _ => Self::Some(128),
        }
    }
}

impl History {
    /// An empty history, which keeps the bytes that are written in the file `contents`.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(contents: &Path) -> io::Result<Self> {
        let contents = File::options().read(true).write(true).create_new(true).open(contents)?;
        Ok(Self { operations: Vec::new(), contents, stored: 0 })
    }

    /// How many operations there were.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Bytes that were written.
    pub fn bytes(&self) -> u64 {
        self.stored
    }

    /// How many flushes there were.
    pub fn flushes(&self) -> usize {
        self.operations.iter().filter(|operation| matches!(operation, Operation::Flush)).count()
    }

    /// Remembers a write.
    ///
    /// # Errors
    /// `StorageFull` where the history has reached its bound, and those of the file of contents.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if self.operations.len() >= OPERATIONS_MAX || self.stored + u64::from(len) > BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.contents.write_all_at(bytes, self.stored)?;
        self.operations.push(Operation::Write { at, len, stored: self.stored });
        self.stored += u64::from(len);
        Ok(())
    }

    /// Remembers a flush.
    ///
    /// # Errors
    /// `StorageFull` where the history has reached its bound.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.operations.len() >= OPERATIONS_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.operations.push(Operation::Flush);
        Ok(())
    }

    /// The moment behind the last flush before `moment`: all that was written before it is safe.
    pub fn safe(&self, moment: usize) -> usize {
        self.operations[..moment]
            .iter()
            .rposition(|operation| matches!(operation, Operation::Flush))
            .map_or(0, |at| at + 1)
    }

    /// Does to `image`, which is the disk at the moment `from`, what happened until the moment `to`.
    ///
    /// # Errors
    /// Where the file of contents cannot be read.
    pub fn replay(&self, image: &mut Image, from: usize, to: usize) -> io::Result<()> {
        for operation in &self.operations[from..to] {
            if let Some((at, bytes)) = self.content(operation)? {
                image.write(at, &bytes);
            }
        }
        Ok(())
    }

    /// Makes the file `path` of the disk that is left when the power is cut at `moment`. `safe` is
    /// the disk at [`History::safe`].
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn survivor(
        &self,
        safe: &Image,
        moment: usize,
        tear: Tear,
        random: &mut Random,
        path: &Path,
    ) -> io::Result<Left> {
        let mut writes = Vec::new();
        for operation in &self.operations[self.safe(moment)..moment] {
            writes.extend(self.content(operation)?);
        }
        let mut kept = Vec::new();
        let mut left = Left::default();
        for (at, bytes) in &writes {
            for (at, sector) in sectors(*at, bytes, tear.sector_bytes) {
                let stays = match tear.keep {
                    Keep::None => false,
                    Keep::All => true,
                    Keep::Some(chance) => random.below(256) < u64::from(chance),
                };
                if stays {
                    left.kept += 1;
                    kept.push((at, sector));
                } else {
                    left.lost += 1;
                }
            }
        }
        safe.save(path, &kept)?;
        Ok(left)
    }

    fn content(&self, operation: &Operation) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Operation::Write { at, len, stored } = *operation else { return Ok(None) };
        let mut bytes = vec![0; len as usize];
        self.contents.read_exact_at(&mut bytes, stored)?;
        Ok(Some((at, bytes)))
    }
}

/// A write in parts that are each in one sector of the disk.
fn sectors(at: u64, bytes: &[u8], sector_bytes: u64) -> Vec<(u64, &[u8])> {
    let mut parts = Vec::new();
    let (mut at, mut rest) = (at, bytes);
    while !rest.is_empty() {
        let room = sector_bytes - at % sector_bytes;
        let count = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
        let (part, behind) = rest.split_at(count);
        parts.push((at, part));
        at += count as u64;
        rest = behind;
    }
    parts
}

/// What became of the sectors that no flush covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Sectors that are there.
    pub kept: u64,
    /// Sectors that are not.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_after(history: &History, moment: usize, keep: Keep) -> (Vec<u8>, Left) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut safe = Image::default();
        safe.write(4095, &[0]);
        history.replay(&mut safe, 0, history.safe(moment)).expect("replayed");
        let path = dir.path().join("left");
        let mut random = Random::new(1);
        let tear = Tear { sector_bytes: 512, keep };
        let left = history.survivor(&safe, moment, tear, &mut random, &path).expect("made");
        (std::fs::read(path).expect("there"), left)
    }

    #[test]
    fn a_cut_leaves_what_was_flushed_and_some_sectors_of_the_rest() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut history = History::create(&dir.path().join("contents")).expect("made");
        history.write(0, &[1; 1024]).expect("room");
        history.flush().expect("room");
        history.write(512, &[2; 3072]).expect("room");
        history.write(1024, &[3; 512]).expect("room");
        history.flush().expect("room");

        let (bytes, left) = bytes_after(&history, 4, Keep::None);
        assert_eq!(left, Left { kept: 0, lost: 7 });
        assert!(bytes[..1024].iter().all(|byte| *byte == 1), "it was flushed");
        assert!(bytes[1024..].iter().all(|byte| *byte == 0), "it was not");

        let (bytes, _) = bytes_after(&history, 1, Keep::None);
        assert!(bytes.iter().all(|byte| *byte == 0), "the cut came before the flush");

        let (bytes, left) = bytes_after(&history, 4, Keep::All);
        assert_eq!(left, Left { kept: 7, lost: 0 });
        assert_eq!((bytes[511], bytes[512], bytes[1024], bytes[1536]), (1, 2, 3, 2));

        let (bytes, _) = bytes_after(&history, 5, Keep::None);
        assert_eq!((bytes[511], bytes[512], bytes[1024], bytes[1536]), (1, 2, 3, 2));

        let (bytes, left) = bytes_after(&history, 4, Keep::Some(128));
        assert!(left.kept > 0 && left.lost > 0, "{left:?}");
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
        }
    }

    #[test]
    fn a_write_is_torn_where_the_sectors_of_the_disk_end() {
        let parts = sectors(3584, &[0; 5120], 4096);
        let ranges: Vec<_> = parts.iter().map(|(at, part)| (*at, part.len())).collect();
        assert_eq!(ranges, [(3584, 512), (4096, 4096), (8192, 512)]);
    }
}
