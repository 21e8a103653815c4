//! A channel of integers: predicted, and the error written by the Rice code.

use super::BlockError;
use super::bits::{BitReader, BitWriter};
use super::predict::Predictor;
use super::rice::{Form, Series, read_sized, unzigzag, write_sized, zigzag};

/// What both ends know of a channel of integers.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    errors: Series,
    predictor: Predictor,
}

impl Number {
    pub(super) const fn new() -> Self {
        Self { errors: Series::new(), predictor: Predictor::new(0) }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        value: i64,
        is_first: bool,
        is_marked: bool,
    ) -> Result<(), BlockError> {
        if is_first {
            if is_marked {
                writer.write(buffer, 0, 1)?;
            }
            self.predictor = Predictor::new(value);
            return write_sized(writer, buffer, zigzag(value));
        }
        let predictions = self.predictor.predictions();
        let error = value.wrapping_sub(self.predictor.choose(&predictions));
        self.predictor.learn(value, &predictions);
        self.errors.encode(writer, buffer, error, is_marked)
    }

    /// Reads a value; `None` is a mark.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
        form: Form,
    ) -> Result<Option<i64>, BlockError> {
        if is_first {
            if form == Form::Marked && reader.read(1)? == 1 {
                return Ok(None);
            }
            let value = unzigzag(read_sized(reader)?);
            self.predictor = Predictor::new(value);
            return Ok(Some(value));
        }
        let Some(error) = self.errors.decode(reader, form)? else { return Ok(None) };
        let predictions = self.predictor.predictions();
        let prediction = match form {
            Form::One => Predictor::hold(&predictions),
            _ => self.predictor.choose(&predictions),
        };
        let value = prediction.wrapping_add(error);
        self.predictor.learn(value, &predictions);
        Ok(Some(value))
    }

    /// Reads a value of a channel without marks.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn decode_unmarked(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
        form: Form,
    ) -> Result<i64, BlockError> {
        self.decode(reader, is_first, form)?.ok_or(BlockError::Malformed)
    }

    pub(super) fn write_mark(
        &self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        is_first: bool,
    ) -> Result<(), BlockError> {
        if is_first { writer.write(buffer, 1, 1) } else { self.errors.write_mark(writer, buffer) }
    }
}
