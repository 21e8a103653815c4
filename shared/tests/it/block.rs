//! Series blocks: what is read is what was written, and any bytes are survived.

use crc::{CRC_32_ISCSI, Crc};
use headwater_shared::block::{
    BlockBuilder, BlockDecoder, BlockEncoder, BlockError, BlockSpec, CHANNELS_MAX, COUNT_MAX,
    Clock, HEADER_MAX,
};
use proptest::prelude::*;

type Row = (u64, Vec<i64>);

fn spec(scales: &[u8]) -> BlockSpec<'_> {
    BlockSpec {
        boot_epoch: 7,
        sequence: 3,
        first_sample: 768,
        clock: Clock::Unix,
        period_ms: 1000,
        scales,
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
fn seal(block: &mut [u8]) {
    let (crc, body) = block.split_at_mut(4);
    crc.copy_from_slice(&Crc::<u32>::new(&CRC_32_ISCSI).checksum(body).to_le_bytes());
}

/// Differences as sensors make them and as they do not: still, small, large, any.
fn difference() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => Just(0),
        8 => -40..40i64,
        2 => -100_000..100_000i64,
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(1), Just(-1)],
    ]
}

fn lateness_ms() -> impl Strategy<Value = i64> {
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
    let scales = vec![2; rows.first().map_or(1, |row| row.1.len())];
    let mut block = BlockEncoder::new(buffer, &spec(&scales), base_ms).expect("room for a header");
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
        scales in prop::collection::vec(0..=9u8, 1..=CHANNELS_MAX),
    ) {
        let clock = if unix { Clock::Unix } else { Clock::SinceBoot };
        let spec = BlockSpec { boot_epoch, sequence, first_sample, clock, period_ms, scales: &scales };
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
            scales: header.scales(),
        };
        prop_assert_eq!(read, spec);
        prop_assert_eq!((header.base_ms, header.count), (base_ms, 0));
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_the_block_as_it_was(
        (base, rows) in rows(1..200),
        room in HEADER_MAX..400usize,
    ) {
        let scales = vec![0; rows[0].1.len()];
        let mut buffer = vec![0; room];
        let mut block = BlockEncoder::new(&mut buffer, &spec(&scales), base).unwrap();
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
        let mut unhindered = BlockEncoder::new(&mut ample, &spec(&scales), base).unwrap();
        for (time, values) in &rows[..fitted] {
            unhindered.push(*time, values).unwrap();
        }
        prop_assert_eq!(&block[..], unhindered.finish());
    }

    #[test]
    fn any_bytes_give_rows_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        if bytes.len() > 5 {
            bytes[4] = bytes[4] & !7 | 1;
            seal(&mut bytes);
            let _ = read(&bytes);
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
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[0]), 0).unwrap();
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
    let mut empty = BlockEncoder::new(&mut buffer, &spec(&[0]), 0).unwrap().finish().to_vec();
    assert_eq!(read(&empty), Ok(vec![]));
    empty.push(0);
    seal(&mut empty);
    assert_eq!(read(&empty), Err(BlockError::Malformed));
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_any_row() {
    let mut buffer = [0; 64];
    let mut block = encode(&mut buffer, 0, &[(0, vec![1])]).to_vec();
    let count_at = block.len() - 2;
    assert_eq!(block[count_at], 1, "a byte of rows follows the count");
    block[count_at] = 100;
    seal(&mut block);
    assert_eq!(BlockDecoder::new(&block).err(), Some(BlockError::Truncated));
}

#[test]
fn a_spec_that_no_block_can_hold_is_refused() {
    let mut buffer = [0; 128];
    for (scales, error) in [
        (&[][..], BlockError::Channels(0)),
        (&[0; 9][..], BlockError::Channels(9)),
        (&[0, 10][..], BlockError::Scale(10)),
    ] {
        assert_eq!(BlockEncoder::new(&mut buffer, &spec(scales), 0).err(), Some(error));
    }
    let small = BlockEncoder::new(&mut buffer[..12], &spec(&[0]), 0);
    assert_eq!(small.err(), Some(BlockError::BufferTooSmall));
}

#[test]
fn a_row_of_another_width_is_refused_and_costs_nothing() {
    let mut buffer = [0; 128];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[0, 0]), 0).unwrap();
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
    let mut version = block.clone();
    version[4] = version[4] & !7 | 2;
    seal(&mut version);
    assert_eq!(read(&version), Err(BlockError::Version(2)));
    let mut codec = block;
    let channel_at = codec.len() - 3;
    assert_eq!(codec[channel_at], 2, "the scale stands before the count");
    codec[channel_at] |= 5 << 4;
    seal(&mut codec);
    assert_eq!(read(&codec), Err(BlockError::Codec(5)));
}

#[test]
fn a_builder_makes_the_same_bytes_block_after_block() {
    let mut builder = BlockBuilder::<128>::new();
    assert_eq!(builder.push(0, &[1]), Err(BlockError::NotStarted));
    assert_eq!(builder.finish(), None);
    for rows in [vec![(5, vec![1]), (1005, vec![2])], vec![(9, vec![-7])]] {
        builder.start(&spec(&[2]), rows[0].0).unwrap();
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
    let punctual_at = 4 + 1 + 1 + 1 + 2 + 1 + 1 + 1 + 1;
    assert_eq!(block[punctual_at - 1..=punctual_at], [3, 1], "count and punctual rows");
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
fn a_channel_costs_at_most_40_bytes_of_state() {
    let states = 1 + CHANNELS_MAX;
    assert!(size_of::<BlockBuilder<0>>() <= 40 * states, "{}", size_of::<BlockBuilder<0>>());
    assert!(size_of::<BlockDecoder<'_>>() <= 48 * states, "{}", size_of::<BlockDecoder<'_>>());
}
