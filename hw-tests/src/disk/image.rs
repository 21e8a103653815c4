//! The content of a disk, in memory: what was never written takes no room.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHUNK: usize = 64 << 10;
/// What is all zeros of this size stays a hole in a file.
const PAGE: usize = 4 << 10;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Bytes of a disk.
#[derive(Clone, Debug, Default)]
pub struct Image {
    len: u64,
    chunks: BTreeMap<u64, Box<[u8]>>,
}

impl Image {
    /// The content of a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut image = Self { len: file.metadata()?.len(), chunks: BTreeMap::new() };
        let mut bytes = vec![0; CHUNK];
        let mut at = 0;
        while at < image.len {
            let wanted = usize::try_from(image.len - at).map_or(CHUNK, |left| left.min(CHUNK));
            file.read_exact(&mut bytes[..wanted])?;
            if bytes[..wanted] != ZEROS[..wanted] {
                image.write(at, &bytes[..wanted]);
            }
            at += wanted as u64;
        }
        Ok(image)
    }

    /// Bytes of the disk.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is a disk of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes `bytes` at `at`; the disk grows if they end behind it.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.len = self.len.max(at + bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let within = (place % CHUNK as u64) as usize;
            let count = (CHUNK - within).min(bytes.len() - done);
            let chunk = self
                .chunks
                .entry(place / CHUNK as u64)
                .or_insert_with(|| vec![0; CHUNK].into_boxed_slice());
            chunk[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Makes a file of it; `over` is written last.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path, over: &[(u64, &[u8])]) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.len)?;
        for (number, chunk) in &self.chunks {
            for (page, bytes) in chunk.chunks(PAGE).enumerate() {
                if bytes != &ZEROS[..PAGE] {
                    let at = number * CHUNK as u64 + (page * PAGE) as u64;
                    let left = usize::try_from(self.len - at).map_or(PAGE, |left| left.min(PAGE));
                    file.write_all_at(&bytes[..left], at)?;
                }
            }
        }
        for (at, bytes) in over {
            file.write_all_at(bytes, *at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_saved_and_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("image");
        let mut image = Image::default();
        image.write(300_000, &[7; 70_000]);
        image.write(400_000 - 1, &[0]);
        image.save(&path, &[(512, &[9; 512])]).expect("saved");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(bytes.len(), 400_000);
        for (at, byte) in bytes.iter().enumerate() {
            let wanted = match at {
                512..1024 => 9,
                300_000..370_000 => 7,
                _ => 0,
            };
            assert_eq!(*byte, wanted, "at {at}");
        }
        let again = Image::read(&path).expect("read");
        assert_eq!(again.len(), 400_000);
        let copy = dir.path().join("copy");
        again.save(&copy, &[]).expect("saved");
        assert_eq!(std::fs::read(copy).expect("there"), bytes);
    }
}
