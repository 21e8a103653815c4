//! Series blocks.

use crc::{CRC_32_ISCSI, Crc};
use headwater_shared::block::{
    BlockDecoder, BlockEncoder, BlockError, BlockSpec, CHANNELS_MAX, Clock, Kind, SCALE_MAX, Step,
    TEXT_MAX, Value,
};

use super::input::Input;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const CRC_SIZE: usize = 4;
/// More bytes than any value or time takes, a text's own aside.
const VALUE_SIZE_MAX: usize = 16;

/// A value that owns its text; floats are compared by their bits.
#[derive(Clone, Debug)]
struct Owned(Value<'static>, String);

impl Owned {
    fn new(value: Value<'_>) -> Self {
        match value {
            Value::Decimal(value) => Self(Value::Decimal(value), String::new()),
            Value::Unsigned(value) => Self(Value::Unsigned(value), String::new()),
            Value::Float32(value) => Self(Value::Float32(value), String::new()),
            Value::Float64(value) => Self(Value::Float64(value), String::new()),
            Value::Boolean(value) => Self(Value::Boolean(value), String::new()),
            Value::Text(text) => Self(Value::Text(""), text.to_owned()),
        }
    }

    fn value(&self) -> Value<'_> {
        if let Value::Text(_) = self.0 { Value::Text(&self.1) } else { self.0 }
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Self) -> bool {
        match (self.value(), other.value()) {
            (Value::Float32(one), Value::Float32(two)) => one.to_bits() == two.to_bits(),
            (Value::Float64(one), Value::Float64(two)) => one.to_bits() == two.to_bits(),
            (one, two) => one == two,
        }
    }
}

type Row = (u64, Vec<Owned>);

/// Reads a block to its end or first error.
fn read(block: &[u8]) -> Result<Vec<Row>, BlockError> {
    let mut decoder = BlockDecoder::new(block)?;
    let header = *decoder.header();
    assert!((1..=CHANNELS_MAX).contains(&header.channels()));
    let mut values = vec![Value::Boolean(false); header.channels()];
    let mut rows = Vec::new();
    while let Some(time) = decoder.next_values(&mut values) {
        rows.push((time?, values.iter().copied().map(Owned::new).collect()));
        assert!(rows.len() <= usize::from(header.count));
    }
    assert_eq!(rows.len(), usize::from(header.count));
    Ok(rows)
}

/// Reads the rows as numbers, as far as they are, and holds them against the values.
fn read_numbers(block: &[u8], rows: &[Row]) {
    let mut decoder = BlockDecoder::new(block).expect("it was read");
    let kinds = decoder.header().kinds().to_vec();
    let mut numbers = vec![0; kinds.len()];
    for (time, values) in rows {
        match decoder.next_row(&mut numbers) {
            Some(Ok(read)) => assert_eq!(read, *time),
            Some(Err(BlockError::Kind { channel })) => {
                let counted = matches!(kinds[channel], Kind::Decimal { .. } | Kind::Grid { .. });
                return assert!(!counted);
            }
            Some(Err(BlockError::OffGrid)) => return,
            other => panic!("{other:?}"),
        }
        for ((kind, number), value) in kinds.iter().zip(&numbers).zip(values) {
            if let Kind::Decimal { .. } = kind {
                assert_eq!(value.value(), Value::Decimal(*number));
            }
        }
    }
    assert_eq!(decoder.next_row(&mut numbers), None);
}

fn push(block: &mut BlockEncoder<'_>, (time_ms, row): &Row) -> Result<(), BlockError> {
    let values: Vec<Value<'_>> = row.iter().map(Owned::value).collect();
    block.push_values(*time_ms, &values)
}

fn encode(spec: &BlockSpec<'_>, base_ms: u64, rows: &[Row]) -> Vec<u8> {
    let texts: usize = rows.iter().flat_map(|(_, row)| row).map(|value| value.1.len()).sum();
    let most = texts + (rows.len() + 8) * VALUE_SIZE_MAX * (1 + spec.kinds.len());
    let mut buffer = vec![0xAA; most];
    let mut block = BlockEncoder::new(&mut buffer, spec, base_ms).expect("room for a header");
    for row in rows {
        push(&mut block, row).expect("room for the row");
    }
    let size = block.size();
    let bytes = block.finish().to_vec();
    assert_eq!(bytes.len(), size);
    bytes
}

/// Any bytes give rows or an error, also under a checksum that is right; and rows that are read
/// are written as a block of the same rows.
pub fn block_bytes(input: &[u8]) {
    if read(input).is_ok() {
        assert_eq!(CRC.checksum(&input[CRC_SIZE..]).to_le_bytes(), input[..CRC_SIZE]);
    }
    let block = [&CRC.checksum(input).to_le_bytes()[..], input].concat();
    let Ok(rows) = read(&block) else { return };
    read_numbers(&block, &rows);
    let header = *BlockDecoder::new(&block).expect("it was read").header();
    let spec = BlockSpec {
        boot_epoch: header.boot_epoch,
        sequence: header.sequence,
        first_sample: header.first_sample,
        clock: header.clock,
        period_ms: header.period_ms,
        kinds: header.kinds(),
    };
    let again = encode(&spec, header.base_ms, &rows);
    assert_eq!(read(&again), Ok(rows));
}

/// Any rows come back as they were, also where the last ones have no room in the block.
pub fn block_rows(input: &[u8]) {
    let mut input = Input::new(input);
    let flags = input.byte();
    let kinds: Vec<_> = (0..=usize::from(flags) % CHANNELS_MAX).map(|_| kind(&mut input)).collect();
    let spec = BlockSpec {
        boot_epoch: input.number() as u32,
        sequence: input.number() as u32,
        first_sample: input.number() as u32,
        clock: if flags & 0x80 == 0 { Clock::SinceBoot } else { Clock::Unix },
        period_ms: input.number() as u32,
        kinds: &kinds,
    };
    let (base_ms, room) = (input.number(), input.below(1024) as usize);
    let mut buffer = vec![0xAA; room];
    let Ok(mut block) = BlockEncoder::new(&mut buffer, &spec, base_ms) else { return };
    let (mut due, mut rows, mut last) = (base_ms, Vec::<Row>::new(), vec![0u64; kinds.len()]);
    while !input.is_empty() {
        let time = due.wrapping_add_signed(input.signed());
        let channels = kinds.iter().zip(&mut last);
        let row = (time, channels.map(|(kind, last)| value(*kind, last, &mut input)).collect());
        let size = block.size();
        match push(&mut block, &row) {
            Ok(()) => {
                rows.push(row);
                due = time.wrapping_add(u64::from(spec.period_ms));
            }
            Err(error) => assert_eq!((error, block.size()), (BlockError::Full, size)),
        }
    }
    assert_eq!(usize::from(block.count()), rows.len());
    let bytes = block.finish().to_vec();
    assert!(bytes.len() <= room);
    assert_eq!(bytes, encode(&spec, base_ms, &rows));
    let header = *BlockDecoder::new(&bytes).expect("it was just written").header();
    assert_eq!((header.base_ms, header.period_ms), (base_ms, spec.period_ms));
    assert_eq!((header.boot_epoch, header.sequence), (spec.boot_epoch, spec.sequence));
    assert_eq!((header.first_sample, header.clock), (spec.first_sample, spec.clock));
    assert_eq!(header.kinds(), spec.kinds);
    assert_eq!(read(&bytes).as_ref(), Ok(&rows));
    read_numbers(&bytes, &rows);
}

fn kind(input: &mut Input) -> Kind {
    let op = input.byte();
    let scale = op / 8 % (SCALE_MAX + 1);
    match op % 8 {
        0 | 1 => Kind::Decimal { scale },
        2 => {
            let mut number = || 1 + input.below(u64::from(u32::MAX >> 1)) as u32;
            Kind::Grid { scale, step: Step { up: number(), parts: number() } }
        }
        3 => Kind::Unsigned,
        4 => Kind::Float32,
        5 => Kind::Float64,
        6 => Kind::Boolean,
        _ => Kind::Text,
    }
}

/// The next value of a channel, of which `last` are the bits.
fn value(kind: Kind, last: &mut u64, input: &mut Input) -> Owned {
    if let Kind::Text = kind {
        let len = usize::from(input.byte()) % (TEXT_MAX + 1);
        let text = String::from_utf8_lossy(input.take(len)).chars().take(TEXT_MAX / 4).collect();
        return Owned(Value::Text(""), text);
    }
    *last = last.wrapping_add_signed(input.signed());
    Owned::new(match kind {
        Kind::Decimal { .. } | Kind::Grid { .. } => Value::Decimal(last.cast_signed()),
        Kind::Unsigned => Value::Unsigned(*last),
        Kind::Float32 => Value::Float32(f32::from_bits((*last as u32).rotate_right(8))),
        Kind::Float64 => Value::Float64(f64::from_bits(last.rotate_right(16))),
        Kind::Boolean | Kind::Text => Value::Boolean(*last & 1 == 1),
    })
}
