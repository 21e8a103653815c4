//! Series blocks: what is read is what was written, and any bytes are survived.

use crc::{CRC_32_ISCSI, Crc};
use headwater_shared::block::{
    BlockBuilder, BlockDecoder, BlockEncoder, BlockError, BlockSpec, CHANNELS_MAX, COUNT_MAX,
    Clock, HEADER_MAX, Kind, Step,
};
use proptest::prelude::*;

type Row = (u64, Vec<i64>);

const DIGITS: Kind = Kind::Decimal { scale: 2 };

pub(crate) fn spec(kinds: &[Kind]) -> BlockSpec<'_> {
    BlockSpec {
        boot_epoch: 7,
        sequence: 3,
        first_sample: 768,
        clock: Clock::Unix,
        period_ms: 1000,
        kinds,
    }
}

/// Reads a block to its end or first error.
fn read(block: &[u8]) -> Result<Vec<Row>, BlockError> {
    let mut decoder = BlockDecoder::new(block)?;
    let mut values = vec![0; decoder.header().channels()];
    let mut rows = Vec::new();
    while let Some(row) = decoder.next_row(&mut values) {
        rows.push((row?, values.clone()));
    }
    assert_eq!(rows.len(), usize::from(decoder.header().count));
    assert_eq!(decoder.next_row(&mut values), None);
    Ok(rows)
}

/// Sets the CRC right, as a sender that breaks the format would.
pub(crate) fn seal(block: &mut [u8]) {
    let (crc, body) = block.split_at_mut(4);
    crc.copy_from_slice(&Crc::<u32>::new(&CRC_32_ISCSI).checksum(body).to_le_bytes());
}

/// Differences as sensors make them and as they do not: still, small, large, any.
pub(crate) fn difference() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => Just(0),
        8 => -40..40i64,
        2 => -100_000..100_000i64,
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(1), Just(-1)],
    ]
}

/// Any kind that a block can hold.
pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    let number = || prop_oneof![1..100u32, 1..=u32::MAX >> 1];
    let step = (number(), number()).prop_map(|(up, parts)| Step { up, parts });
    prop_oneof![
        (0..=9u8).prop_map(|scale| Kind::Decimal { scale }),
        (0..=9u8, step).prop_map(|(scale, step)| Kind::Grid { scale, step }),
        Just(Kind::Unsigned),
        Just(Kind::Float32),
        Just(Kind::Float64),
        Just(Kind::Boolean),
        Just(Kind::Text),
    ]
}

pub(crate) fn lateness_ms() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0), 8 => -9..9i64, 1 => 0..100_000_000i64, 1 => any::<i64>()]
}

/// Rows of 1 to 8 channels, from any start.
fn rows(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = (u64, Vec<Row>)> {
    let count = count.into();
    (1..=CHANNELS_MAX).prop_flat_map(move |channels| {
        let step = (lateness_ms(), prop::collection::vec(difference(), channels));
        (any::<u64>(), prop::collection::vec(step, count.clone())).prop_map(move |(base, steps)| {
            let mut last = (base.wrapping_sub(1000), vec![0i64; channels]);
            let rows = steps.into_iter().map(|(late, differences)| {
                let time = last.0.wrapping_add(1000).wrapping_add_signed(late);
                let values = differences.iter().zip(&last.1).map(|(d, v)| v.wrapping_add(*d));
                last = (time, values.collect());
                last.clone()
            });
            (base, rows.collect())
        })
    })
}

fn encode<'b>(buffer: &'b mut [u8], base_ms: u64, rows: &[Row]) -> &'b [u8] {
    let kinds = vec![DIGITS; rows.first().map_or(1, |row| row.1.len())];
    let mut block = BlockEncoder::new(buffer, &spec(&kinds), base_ms).expect("room for a header");
    for (time, values) in rows {
        block.push(*time, values).expect("room for the row");
    }
    assert_eq!(usize::from(block.count()), rows.len());
    let size = block.size();
    let bytes = block.finish();
    assert_eq!(bytes.len(), size);
    bytes
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written((base, rows) in rows(0..300)) {
        let mut buffer = vec![0xAA; 64 << 10];
        prop_assert_eq!(read(encode(&mut buffer, base, &rows)), Ok(rows));
    }

    #[test]
    fn every_field_of_the_header_comes_back(
        (boot_epoch, sequence, first_sample, period_ms) in any::<(u32, u32, u32, u32)>(),
        (base_ms, unix) in any::<(u64, bool)>(),
        kinds in prop::collection::vec(kind(), 1..=CHANNELS_MAX),
        regular in any::<bool>(),
    ) {
        let clock = if unix { Clock::Unix } else { Clock::SinceBoot };
        // An empty block is regular if nothing came before it.
        let first_sample = if regular { 0 } else { first_sample };
        let spec = BlockSpec { boot_epoch, sequence, first_sample, clock, period_ms, kinds: &kinds };
        let mut buffer = [0; HEADER_MAX];
        let block = BlockEncoder::new(&mut buffer, &spec, base_ms).unwrap().finish();
        let decoder = BlockDecoder::new(block).unwrap();
        let header = decoder.header();
        let read = BlockSpec {
            boot_epoch: header.boot_epoch,
            sequence: header.sequence,
            first_sample: header.first_sample,
            clock: header.clock,
            period_ms: header.period_ms,
            kinds: header.kinds(),
        };
        prop_assert_eq!(read, spec);
        prop_assert_eq!((header.base_ms, header.count), (base_ms, 0));
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_the_block_as_it_was(
        (base, rows) in rows(1..200),
        room in HEADER_MAX..400usize,
    ) {
        let kinds = vec![DIGITS; rows[0].1.len()];
        let mut buffer = vec![0; room];
        let mut block = BlockEncoder::new(&mut buffer, &spec(&kinds), base).unwrap();
        // Rows of a full block are refused one by one; a smaller one may still fit later, but a
        // node stops at the first, and so does this.
        let fitted = rows.iter().take_while(|(time, values)| {
            let size = block.size();
            let pushed = block.push(*time, values);
            if pushed.is_err() {
                assert_eq!((pushed, block.size()), (Err(BlockError::Full), size));
            }
            pushed.is_ok()
        }).count();
        prop_assert_eq!(usize::from(block.count()), fitted);
        let block = block.finish().to_vec();
        prop_assert!(block.len() <= room);
        let mut ample = vec![0; 64 << 10];
        let mut unhindered = BlockEncoder::new(&mut ample, &spec(&kinds), base).unwrap();
        for (time, values) in &rows[..fitted] {
            unhindered.push(*time, values).unwrap();
        }
        prop_assert_eq!(&block[..], unhindered.finish());
    }

    #[test]
    fn any_bytes_give_rows_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        if bytes.len() > 5 {
            for version in [1, 2] {
                bytes[4] = bytes[4] & !7 | version;
                seal(&mut bytes);
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_and_never_other_rows(
        (base, rows) in rows(1..40),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut buffer = vec![0; 16 << 10];
        let mut block = encode(&mut buffer, base, &rows).to_vec();
        let bit = flip.index(block.len() * 8);
        block[bit / 8] ^= 1 << (bit % 8);
        let is_damage = matches!(read(&block), Err(BlockError::Crc { .. }));
        prop_assert!(is_damage);
        seal(&mut block);
        let _ = read(&block);
    }

    #[test]
    fn a_block_cut_short_is_an_error((base, rows) in rows(1..40), cut in any::<prop::sample::Index>()) {
        let mut buffer = vec![0; 16 << 10];
        let block = encode(&mut buffer, base, &rows);
        let mut short = block[..cut.index(block.len())].to_vec();
        prop_assert!(read(&short).is_err());
        if short.len() > 4 {
            seal(&mut short);
            prop_assert!(read(&short).is_err());
        }
    }
}

#[test]
fn one_reading_is_a_block() {
    for value in [0, 1, -1, i64::MIN, i64::MAX] {
        let rows = vec![(1_763_700_000_000, vec![value])];
        let mut buffer = [0; 64];
        assert_eq!(read(encode(&mut buffer, 1_763_700_000_000, &rows)), Ok(rows));
    }
}

#[test]
fn a_full_block_of_the_most_rows_takes_no_other() {
    let mut buffer = vec![0; 8 << 10];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[DIGITS]), 0).unwrap();
    for row in 0..u64::from(COUNT_MAX) {
        block.push(row * 1000, &[5]).unwrap();
    }
    assert_eq!(block.push(0, &[5]), Err(BlockError::Full));
    let rows = read(block.finish()).unwrap();
    assert_eq!(rows.len(), usize::from(COUNT_MAX));
    assert_eq!(rows.last(), Some(&(u64::from(COUNT_MAX - 1) * 1000, vec![5])));
}

#[test]
fn bytes_after_the_last_row_are_refused() {
    let mut buffer = [0; 64];
    let mut block = encode(&mut buffer, 0, &[(0, vec![1]), (1000, vec![2])]).to_vec();
    block.push(0);
    seal(&mut block);
    assert_eq!(read(&block), Err(BlockError::Malformed));
    let mut empty = BlockEncoder::new(&mut buffer, &spec(&[DIGITS]), 0).unwrap().finish().to_vec();
    assert_eq!(read(&empty), Ok(vec![]));
    empty.push(0);
    seal(&mut empty);
    assert_eq!(read(&empty), Err(BlockError::Malformed));
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_any_row() {
    let mut buffer = [0; 64];
    let mut block = encode(&mut buffer, 0, &[(0, vec![1])]).to_vec();
    let count_at = block.len() - 4;
    assert_eq!(block[count_at..][..3], [1, 0x80, 6], "the first sample follows the count");
    block[count_at] = 100;
    seal(&mut block);
    assert_eq!(BlockDecoder::new(&block).err(), Some(BlockError::Truncated));
}

#[test]
fn a_spec_that_no_block_can_hold_is_refused() {
    let mut buffer = [0; 128];
    let grid = |up, parts| Kind::Grid { scale: 2, step: Step { up, parts } };
    let step = |up, parts| BlockError::Step { up, parts };
    for (kinds, error) in [
        (&[][..], BlockError::Channels(0)),
        (&[DIGITS; 9][..], BlockError::Channels(9)),
        (&[DIGITS, Kind::Decimal { scale: 10 }][..], BlockError::Scale(10)),
        (&[grid(0, 1)][..], step(0, 1)),
        (&[grid(1, 0)][..], step(1, 0)),
        (&[grid(1 << 31, 3)][..], step(1 << 31, 3)),
        (&[grid(7, 1 << 31)][..], step(7, 1 << 31)),
    ] {
        assert_eq!(BlockEncoder::new(&mut buffer, &spec(kinds), 0).err(), Some(error));
    }
    let small = BlockEncoder::new(&mut buffer[..12], &spec(&[DIGITS]), 0);
    assert_eq!(small.err(), Some(BlockError::BufferTooSmall));
}

#[test]
fn a_row_of_another_width_is_refused_and_costs_nothing() {
    let mut buffer = [0; 128];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[DIGITS; 2]), 0).unwrap();
    let wrong = BlockError::RowWidth { channels: 2, values: 1 };
    assert_eq!(block.push(0, &[1]), Err(wrong));
    block.push(0, &[1, 2]).unwrap();
    let mut decoder = BlockDecoder::new(block.finish()).unwrap();
    assert_eq!(decoder.next_row(&mut [0]), Some(Err(wrong)));
    let mut values = [0; 2];
    assert_eq!(decoder.next_row(&mut values), Some(Ok(0)));
    assert_eq!(values, [1, 2]);
}

#[test]
fn versions_and_codecs_of_the_future_are_named() {
    let mut buffer = [0; 64];
    let block = encode(&mut buffer, 0, &[(0, vec![1])]).to_vec();
    for version in [0, 3, 7] {
        let mut other = block.clone();
        other[4] = other[4] & !7 | version;
        seal(&mut other);
        assert_eq!(read(&other), Err(BlockError::Version(version)));
    }
    let channel_at = block.len() - 5;
    assert_eq!(block[channel_at..][..2], [0x12, 1], "codec and scale stand before the count");
    for codec in [0, 8, 15] {
        let mut other = block.clone();
        other[channel_at] = codec << 4 | 2;
        seal(&mut other);
        assert_eq!(read(&other), Err(BlockError::Codec(codec)));
    }
    let mut scaled = block;
    scaled[channel_at] = 6 << 4 | 2;
    seal(&mut scaled);
    assert_eq!(read(&scaled), Err(BlockError::Malformed), "a boolean has no scale");
}

#[test]
fn a_builder_makes_the_same_bytes_block_after_block() {
    let mut builder = BlockBuilder::<128>::new();
    assert_eq!(builder.push(0, &[1]), Err(BlockError::NotStarted));
    assert_eq!(builder.finish(), None);
    for rows in [vec![(5, vec![1]), (1005, vec![2])], vec![(9, vec![-7])]] {
        builder.start(&spec(&[DIGITS]), rows[0].0).unwrap();
        for (time, values) in &rows {
            builder.push(*time, values).unwrap();
        }
        assert_eq!((usize::from(builder.count()), builder.is_open()), (rows.len(), true));
        let mut buffer = [0; 128];
        let expected = encode(&mut buffer, rows[0].0, &rows);
        assert_eq!(builder.size(), expected.len());
        assert_eq!(builder.finish(), Some(expected));
        assert!(!builder.is_open());
    }
}

#[test]
fn a_row_counted_as_punctual_beyond_the_last_is_refused() {
    let mut buffer = [0; 64];
    let rows = [(0, vec![1]), (1007, vec![1]), (2007, vec![1])];
    let mut block = encode(&mut buffer, 0, &rows).to_vec();
    let punctual_at = 4 + 1 + 1 + 1 + 1 + 5 + 1 + 1 + 2;
    assert_eq!(block[punctual_at - 3..=punctual_at], [3, 0x80, 6, 1], "count to punctual rows");
    block[punctual_at] = 3;
    seal(&mut block);
    assert_eq!(BlockDecoder::new(&block).err(), Some(BlockError::Malformed));
}

#[test]
fn punctual_rows_cost_nothing_until_one_is_late() {
    let row = |index: u64| (index * 1000, vec![5]);
    let punctual: Vec<Row> = (0..100).map(row).collect();
    let mut late = punctual.clone();
    late[99].0 += 3;
    let (mut one, mut other) = ([0; 128], [0; 128]);
    let (punctual, late) = (encode(&mut one, 0, &punctual), encode(&mut other, 0, &late));
    // A byte for the punctual rows, 1 + 7 + 2 bits for three ms.
    assert_eq!(late.len() - punctual.len(), 2);
}

#[test]
fn a_channel_costs_at_most_100_bytes_of_state() {
    let states = 1 + CHANNELS_MAX;
    assert!(size_of::<BlockBuilder<0>>() <= 100 * states, "{}", size_of::<BlockBuilder<0>>());
    assert!(size_of::<BlockDecoder<'_>>() <= 120 * states, "{}", size_of::<BlockDecoder<'_>>());
}
