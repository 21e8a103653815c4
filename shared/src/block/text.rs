//! A channel of texts that change now and then: the four that were used last are named, others spelt.
//!
//! ```text
//! same     0
//! known    1, 2 bits: 0 the text before the last, 1 the one before that, 2
//! new      1 11, zeros up to the next byte, a byte with the length, the text
//! ```

use super::BlockError;
use super::bits::{BitReader, BitWriter};
use super::kind::TEXT_MAX;

/// The most bits of a value.
pub(super) const CODE_BITS_MAX: usize = 1 + 2 + 7 + 8 * (1 + TEXT_MAX);

const KNOWN: usize = 4;
const NEW: u64 = 0b11;

/// The byte that stands before a text.
///
/// # Errors
/// [`BlockError::TextLength`].
pub(super) fn text_length(text: &str) -> Result<u8, BlockError> {
    match u8::try_from(text.len()) {
        Ok(length) if text.len() <= TEXT_MAX => Ok(length),
        _ => Err(BlockError::TextLength(text.len())),
    }
}

/// The texts that were used last, the newest first.
#[derive(Clone, Copy, Debug)]
struct Recent<T> {
    texts: [Option<T>; KNOWN],
}

impl<T: Copy> Recent<T> {
    const fn new() -> Self {
        Self { texts: [None; KNOWN] }
    }

    /// Puts the text at `index` before the others.
    fn touch(&mut self, index: usize) {
        self.texts[..=index].rotate_right(1);
    }

    fn push(&mut self, text: T) {
        self.touch(KNOWN - 1);
        self.texts[0] = Some(text);
    }
}

/// Where a text stands in the encoder's buffer.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    length: u8,
}

impl Span {
    fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.at as usize..][..usize::from(self.length)]
    }
}

/// The encoder's view of a channel of texts.
#[derive(Clone, Copy, Debug)]
pub struct TextWriter(Recent<Span>);

impl TextWriter {
    pub(super) const fn new() -> Self {
        Self(Recent::new())
    }

    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        text: &str,
    ) -> Result<(), BlockError> {
        let known = self.0.texts.iter().flatten();
        match known.map(|span| span.of(buffer)).position(|known| known == text.as_bytes()) {
            Some(0) => return writer.write(buffer, 0, 1),
            Some(index) => {
                writer.write(buffer, 0b100 | (index as u64 - 1), 3)?;
                self.0.touch(index);
                return Ok(());
            }
            None => {}
        }
        let length = text_length(text)?;
        writer.write(buffer, 0b100 | NEW, 3)?;
        writer.write_bytes(buffer, &[length])?;
        let at = writer.write_bytes(buffer, text.as_bytes())?;
        let at = u32::try_from(at).map_err(|_| BlockError::Full)?;
        self.0.push(Span { at, length });
        Ok(())
    }
}

/// The decoder's view of a channel of texts.
#[derive(Clone, Copy, Debug)]
pub struct TextReader<'b>(Recent<&'b str>);

impl<'b> TextReader<'b> {
    pub(super) const fn new() -> Self {
        Self(Recent::new())
    }

    pub(super) fn decode(&mut self, reader: &mut BitReader<'b>) -> Result<&'b str, BlockError> {
        if reader.read(1)? == 1 {
            match reader.read(2)? {
                NEW => self.0.push(read_text(reader)?),
                index => self.0.touch(index as usize + 1),
            }
        }
        self.0.texts[0].ok_or(BlockError::Malformed)
    }
}

fn read_text<'b>(reader: &mut BitReader<'b>) -> Result<&'b str, BlockError> {
    let &[length] = reader.read_bytes(1)? else { return Err(BlockError::Truncated) };
    let length = usize::from(length);
    if length > TEXT_MAX {
        return Err(BlockError::Malformed);
    }
    core::str::from_utf8(reader.read_bytes(length)?).map_err(|_| BlockError::Malformed)
}
