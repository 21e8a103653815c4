//! Rows of any kinds: what is read is what was written, bit for bit.

use headwater_shared::block::{
    BlockDecoder, BlockEncoder, BlockError, CHANNELS_MAX, HEADER_MAX, Kind, Step, TEXT_MAX, Value,
};
use proptest::prelude::*;

use crate::block::{difference, kind, lateness_ms, seal, spec};

/// A value that owns its text, compared by its bits.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Decimal(i64),
    Unsigned(u64),
    Float32(u32),
    Float64(u64),
    Boolean(bool),
    Text(String),
}

impl Owned {
    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Decimal(value) => Value::Decimal(*value),
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Float32(bits) => Value::Float32(f32::from_bits(*bits)),
            Self::Float64(bits) => Value::Float64(f64::from_bits(*bits)),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Text(text) => Value::Text(text),
        }
    }
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Decimal(value) => Self::Decimal(value),
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Float32(value) => Self::Float32(value.to_bits()),
            Value::Float64(value) => Self::Float64(value.to_bits()),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Text(text) => Self::Text(text.to_owned()),
        }
    }
}

type Row = (u64, Vec<Owned>);

/// What moves a channel from row to row: a difference, a choice, bits, a text.
type Move = (i64, usize, u64, String);

fn moves() -> impl Strategy<Value = Move> {
    (difference(), 0..6usize, any::<u64>(), "[a-zß°]{0,32}")
}

fn float_64(choice: usize, bits: u64) -> u64 {
    let payload = f64::NAN.to_bits() | bits >> 13;
    [
        21.5f64.to_bits(),
        21.7f64.to_bits(),
        (-0.0f64).to_bits(),
        f64::INFINITY.to_bits(),
        payload,
        bits,
    ][choice]
}

fn float_32(choice: usize, bits: u64) -> u32 {
    let payload = f32::NAN.to_bits() | (bits >> 42) as u32;
    let infinity = f32::NEG_INFINITY.to_bits();
    [21.5f32.to_bits(), 21.7f32.to_bits(), (-0.0f32).to_bits(), infinity, payload, bits as u32]
        [choice]
}

fn text(choice: usize, any: String) -> String {
    let known = ["on", "off", "", "fault", "°"];
    known.get(choice).map_or(any, |known| (*known).to_owned())
}

/// The next value of a channel whose integers are at `last`.
fn value(kind: Kind, last: &mut i64, (by, choice, bits, any): Move) -> Owned {
    match kind {
        Kind::Decimal { .. } => *last = last.wrapping_add(by),
        Kind::Grid { scale, step } => {
            let steps = by.wrapping_mul(i64::from(step.up)) / i64::from(step.parts);
            let off = if choice == 0 { bits as i64 >> 50 } else { 0 };
            *last =
                last.wrapping_add(steps.wrapping_mul(10i64.pow(scale.into()))).wrapping_add(off);
        }
        Kind::Unsigned => *last = last.wrapping_add(by),
        _ => {}
    }
    match kind {
        Kind::Decimal { .. } | Kind::Grid { .. } => Owned::Decimal(*last),
        Kind::Unsigned => Owned::Unsigned(last.cast_unsigned()),
        Kind::Float32 => Owned::Float32(float_32(choice, bits)),
        Kind::Float64 => Owned::Float64(float_64(choice, bits)),
        Kind::Boolean => Owned::Boolean(choice % 2 == 0),
        Kind::Text => Owned::Text(text(choice, any)),
    }
}

/// Rows of 1 to 8 channels of any kinds.
fn rows(
    count: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = (Vec<Kind>, Vec<Row>)> {
    let count = count.into();
    prop::collection::vec(kind(), 1..=CHANNELS_MAX).prop_flat_map(move |kinds| {
        let step = (lateness_ms(), prop::collection::vec(moves(), kinds.len()));
        let steps = prop::collection::vec(step, count.clone());
        (any::<u64>(), steps).prop_map(move |(base, steps)| {
            let (mut time, mut last) = (base, vec![0i64; kinds.len()]);
            let row = |(late, moves): (i64, Vec<Move>)| {
                time = time.wrapping_add(1000).wrapping_add_signed(late);
                let moves = kinds.iter().zip(&mut last).zip(moves);
                (time, moves.map(|((kind, last), by)| value(*kind, last, by)).collect())
            };
            let rows = steps.into_iter().map(row).collect();
            (kinds.clone(), rows)
        })
    })
}

fn push(block: &mut BlockEncoder<'_>, (time_ms, row): &Row) -> Result<(), BlockError> {
    let values: Vec<Value<'_>> = row.iter().map(Owned::as_value).collect();
    block.push_values(*time_ms, &values)
}

fn encode(kinds: &[Kind], rows: &[Row]) -> Vec<u8> {
    let mut buffer = vec![0xAA; 200 << 10];
    let base_ms = rows.first().map_or(0, |row| row.0);
    let mut block = BlockEncoder::new(&mut buffer, &spec(kinds), base_ms).expect("a spec");
    for row in rows {
        push(&mut block, row).expect("room for the row");
    }
    let size = block.size();
    let bytes = block.finish().to_vec();
    assert_eq!(bytes.len(), size);
    bytes
}

fn read(block: &[u8]) -> Result<Vec<Row>, BlockError> {
    let mut decoder = BlockDecoder::new(block)?;
    let mut values = vec![Value::Boolean(false); decoder.header().channels()];
    let mut rows = Vec::new();
    while let Some(time_ms) = decoder.next_values(&mut values) {
        rows.push((time_ms?, values.iter().map(|value| Owned::from(*value)).collect()));
    }
    assert_eq!(rows.len(), usize::from(decoder.header().count));
    Ok(rows)
}

proptest! {
    #[test]
    fn rows_of_any_kinds_come_back((kinds, rows) in rows(0..60)) {
        prop_assert_eq!(read(&encode(&kinds, &rows)), Ok(rows));
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_a_block_of_any_kinds_as_it_was(
        (kinds, rows) in rows(1..60),
        room in HEADER_MAX..1200usize,
    ) {
        let mut buffer = vec![0; room];
        let mut block = BlockEncoder::new(&mut buffer, &spec(&kinds), rows[0].0).unwrap();
        let fitted = rows.iter().take_while(|row| {
            let size = block.size();
            let pushed = push(&mut block, row);
            if pushed.is_err() {
                assert_eq!((pushed, block.size()), (Err(BlockError::Full), size));
            }
            pushed.is_ok()
        }).count();
        let block = block.finish();
        prop_assert!(block.len() <= room);
        prop_assert_eq!(block, encode(&kinds, &rows[..fitted]));
    }

    #[test]
    fn a_flipped_bit_of_any_kinds_is_damage_and_no_panic(
        (kinds, rows) in rows(1..12),
        seed in any::<prop::sample::Index>(),
    ) {
        let block = encode(&kinds, &rows);
        // Some bits of each block, each bit of all of them in the long run.
        for flip in 0..64 {
            let mut block = block.clone();
            let bit = (seed.index(block.len() * 8) + flip * 61) % (block.len() * 8);
            block[bit / 8] ^= 1 << (bit % 8);
            let is_damage = matches!(read(&block), Err(BlockError::Crc { .. }));
            prop_assert!(is_damage);
            seal(&mut block);
            let _ = read(&block);
        }
    }

    #[test]
    fn any_bytes_behind_a_good_header_give_rows_or_an_error(
        kinds in prop::collection::vec(kind(), 1..=CHANNELS_MAX),
        body in prop::collection::vec(any::<u8>(), 0..300),
        count in 0..200u8,
    ) {
        let mut block = encode(&kinds, &[]);
        *block.last_mut().unwrap() = count.min(127);
        block.extend(body);
        seal(&mut block);
        let _ = read(&block);
    }

    #[test]
    fn numbers_and_values_are_the_same_bytes(
        start in any::<i64>(),
        differences in prop::collection::vec(difference(), 1..100),
    ) {
        let mut last = start;
        let values = differences.iter().map(|by| { last = last.wrapping_add(*by); last });
        let rows: Vec<Row> = (0..).zip(values).map(|(t, v)| (t, vec![Owned::Decimal(v)])).collect();
        let kinds = [Kind::Decimal { scale: 1 }];
        let mut buffer = vec![0; 4 << 10];
        let mut numbers = BlockEncoder::new(&mut buffer, &spec(&kinds), 0).unwrap();
        for (time_ms, row) in &rows {
            let [Owned::Decimal(value)] = row[..] else { unreachable!("made above") };
            numbers.push(*time_ms, &[value]).unwrap();
        }
        prop_assert_eq!(numbers.finish(), encode(&kinds, &rows));
    }
}

/// Means of three readings of 0.01.
const THIRDS: Kind = Kind::Grid { scale: 8, step: Step { up: 1, parts: 300 } };

#[test]
fn steps_that_are_counted_are_read_as_decimals() {
    let mut buffer = [0; 128];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[THIRDS]), 0).unwrap();
    for steps in [6490, 6491, -1] {
        block.push(0, &[steps]).unwrap();
    }
    let block = block.finish();
    let decimals = [2_163_333_333, 2_163_666_667, -333_333].map(Owned::Decimal);
    let read = read(block).unwrap();
    assert_eq!(read.into_iter().flat_map(|row| row.1).collect::<Vec<_>>(), decimals);
    let mut rows = BlockDecoder::new(block).unwrap();
    let mut steps = [0];
    for expected in [6490, 6491, -1] {
        assert_eq!(rows.next_row(&mut steps), Some(Ok(0)));
        assert_eq!(steps, [expected]);
    }
}

#[test]
fn a_value_off_its_grid_is_kept_and_no_number_of_steps() {
    let rows: Vec<Row> = [2_163_333_333, 2_163_333_334, 2_163_666_667]
        .map(|value| (0, vec![Owned::Decimal(value)]))
        .into();
    let block = encode(&[THIRDS], &rows);
    assert_eq!(read(&block), Ok(rows));
    let mut decoder = BlockDecoder::new(&block).unwrap();
    let mut steps = [0];
    assert_eq!(decoder.next_row(&mut steps), Some(Ok(0)));
    assert_eq!(decoder.next_row(&mut steps), Some(Err(BlockError::OffGrid)));
    assert_eq!(decoder.next_row(&mut steps), None);
}

#[test]
fn a_grid_of_whole_steps_lies_where_its_values_do() {
    // Degrees Fahrenheit of a sensor with steps of 0.1 Celsius.
    let kind = Kind::Grid { scale: 2, step: Step { up: 9, parts: 50 } };
    let decimal = Kind::Decimal { scale: 2 };
    let rows: Vec<Row> = (0..200i64)
        .map(|index| (0, vec![Owned::Decimal(3200 + 18 * (index * index % 37))]))
        .collect();
    let on_grid = encode(&[kind], &rows);
    assert_eq!(read(&on_grid), Ok(rows.clone()));
    assert!(on_grid.len() + 200 * 4 / 8 < encode(&[decimal], &rows).len() + 10);
}

#[test]
fn what_does_not_change_costs_a_bit() {
    let row = [
        Owned::Decimal(5),
        Owned::Unsigned(5),
        Owned::Float32(5),
        Owned::Float64(5),
        Owned::Boolean(true),
        Owned::Text("a state of the machine".to_owned()),
    ];
    let kinds = [
        Kind::Decimal { scale: 0 },
        Kind::Unsigned,
        Kind::Float32,
        Kind::Float64,
        Kind::Boolean,
        Kind::Text,
    ];
    let punctual =
        |count: u64| -> Vec<Row> { (0..count).map(|index| (index * 1000, row.to_vec())).collect() };
    let sizes = [1, 81].map(|count| encode(&kinds, &punctual(count)).len());
    assert_eq!(sizes[1] - sizes[0], 80 * kinds.len() / 8);
}

#[test]
fn a_text_that_was_used_of_late_is_named_and_not_spelt() {
    let texts = |texts: &[&str]| -> Vec<Row> {
        let row = |text: &&str| vec![Owned::Text((*text).to_owned())];
        (0..).map(|index| index * 1000).zip(texts.iter().map(row)).collect()
    };
    let spelt = encode(&[Kind::Text], &texts(&["starting", "running", "stopping", "stopped"]));
    let again = ["starting", "running", "stopping", "stopped", "starting", "running", "stopped"];
    let named = encode(&[Kind::Text], &texts(&again));
    assert_eq!(read(&named), Ok(texts(&again)));
    assert!(named.len() <= spelt.len() + 2, "{} and {}", named.len(), spelt.len());
}

#[test]
fn a_text_longer_than_a_block_takes_is_refused() {
    let mut buffer = [0; 512];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&[Kind::Text]), 0).unwrap();
    let long = "x".repeat(TEXT_MAX + 1);
    let refused = block.push_values(0, &[Value::Text(&long)]);
    assert_eq!(refused, Err(BlockError::TextLength(TEXT_MAX + 1)));
    block.push_values(0, &[Value::Text(&long[1..])]).unwrap();
    assert_eq!(read(block.finish()).unwrap()[0].1, [Owned::Text(long[1..].to_owned())]);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut block = encode(&[Kind::Text], &[(0, vec![Owned::Text("°".to_owned())])]);
    *block.last_mut().unwrap() = 0xFF;
    seal(&mut block);
    assert_eq!(read(&block), Err(BlockError::Malformed));
}

#[test]
fn a_value_of_another_kind_is_refused_and_costs_nothing() {
    let mut buffer = [0; 128];
    let kinds = [Kind::Decimal { scale: 0 }, Kind::Boolean];
    let mut block = BlockEncoder::new(&mut buffer, &spec(&kinds), 0).unwrap();
    let wrong = Err(BlockError::Kind { channel: 1 });
    assert_eq!(block.push_values(0, &[Value::Decimal(1), Value::Unsigned(1)]), wrong);
    assert_eq!(block.push(0, &[1, 1]), wrong);
    block.push_values(0, &[Value::Decimal(1), Value::Boolean(true)]).unwrap();
    let mut decoder = BlockDecoder::new(block.finish()).unwrap();
    assert_eq!(decoder.next_row(&mut [0; 2]), Some(Err(BlockError::Kind { channel: 1 })));
    let mut values = [Value::Unsigned(0); 2];
    assert_eq!(decoder.next_values(&mut values), Some(Ok(0)));
    assert_eq!(values, [Value::Decimal(1), Value::Boolean(true)]);
}
