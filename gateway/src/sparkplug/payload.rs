//! Sparkplug B payloads as bytes: protobuf, read and written with prost, which does not leave this
//! file. Unknown fields are stepped over.
//!
//! ```text
//! Payload   1 timestamp (ms)   2 metrics, repeated   3 seq (0 to 255)   4 uuid   5 body
//! Metric    1 name   2 alias   3 timestamp   4 datatype   5 is_historical   6 is_transient
//!           7 is_null   8 metadata   9 properties
//!           one of: 10 uint32   11 uint64   12 float   13 double   14 bool   15 string
//!                   16 bytes   17 data set   18 template
//! ```
//!
//! Source: Eclipse Tahu, `sparkplug_b.proto`; Sparkplug 3.0, chapter 6.

use prost::Message as _;
use serde_json::json;

use crate::stream::{TIME_MS, Value};

/// Metrics of one payload; one with more is refused. It bounds what a payload takes in memory, where
/// an empty metric takes two bytes on the wire.
const METRICS_MAX: usize = 20_000;

/// Of a metric that holds a boolean.
const BOOLEAN: u32 = 11;

#[derive(Clone, PartialEq, prost::Message)]
struct WirePayload {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    /// Still encoded, so that their number is known before they take room.
    #[prost(bytes = "vec", repeated, tag = "2")]
    metrics: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "3")]
    seq: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMetric {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    is_historical: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    is_null: Option<bool>,
    #[prost(oneof = "WireValue", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18")]
    value: Option<WireValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireValue {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
    /// Kept as it came.
    #[prost(bytes = "vec", tag = "17")]
    DataSet(Vec<u8>),
    /// Kept as it came.
    #[prost(bytes = "vec", tag = "18")]
    Template(Vec<u8>),
}

/// A payload.
#[derive(Debug, PartialEq)]
pub(super) struct Payload {
    /// When it was sent, ms since 1970, where it says so and the time is one.
    pub(super) time_ms: Option<i64>,
    /// Its place in the sequence of its edge node's messages.
    pub(super) seq: Option<u8>,
    pub(super) metrics: Vec<Metric>,
}

/// A metric.
#[derive(Debug, PartialEq)]
pub(super) struct Metric {
    pub(super) name: Option<String>,
    pub(super) alias: Option<u64>,
    /// When its value was taken, as [`Payload::time_ms`].
    pub(super) time_ms: Option<i64>,
    pub(super) datatype: Option<u32>,
    pub(super) is_historical: bool,
    value: Option<WireValue>,
}

impl Payload {
    /// Reads a payload.
    ///
    /// # Errors
    /// Why it is none, for the `.rejected` stream.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire = WirePayload::decode(bytes)
            .map_err(|problem| format!("not a Sparkplug B payload: {problem}"))?;
        let count = wire.metrics.len();
        if count > METRICS_MAX {
            return Err(format!("{count} metrics: the gateway takes {METRICS_MAX} in a message"));
        }
        let seq = wire.seq.map(|seq| {
            u8::try_from(seq).map_err(|_| format!("seq {seq}: a sequence number is 0 to 255"))
        });
        let metrics = wire.metrics.iter().enumerate().map(|(index, bytes)| {
            Metric::decode(bytes).map_err(|problem| format!("metric {index}: {problem}"))
        });
        Ok(Self {
            time_ms: time_ms(wire.timestamp),
            seq: seq.transpose()?,
            metrics: metrics.collect::<Result<_, _>>()?,
        })
    }

    /// The number that ties a death to its birth.
    pub(super) fn bd_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"))?;
        match metric.value {
            Some(WireValue::Long(number)) => Some(number),
            Some(WireValue::Int(number)) => Some(number.into()),
            _ => None,
        }
    }
}

impl Metric {
    fn decode(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let wire = WireMetric::decode(bytes)?;
        Ok(Self {
            name: wire.name,
            alias: wire.alias,
            time_ms: time_ms(wire.timestamp),
            datatype: wire.datatype,
            is_historical: wire.is_historical == Some(true),
            value: wire.value.filter(|_| wire.is_null != Some(true)),
        })
    }

    /// The value, read as `datatype` says: signed integers travel as the bits of unsigned ones. A
    /// float that is not finite is none, as JSON cannot say it.
    pub(super) fn value(&self, datatype: Option<u32>) -> Value {
        match &self.value {
            None => Value::Null,
            Some(WireValue::Int(bits)) => Value::Integer(integer(*bits, datatype)),
            Some(WireValue::Long(bits)) if datatype == Some(4) => {
                Value::Integer(bits.cast_signed())
            }
            // Beyond i64 it keeps its digits rather than be rounded to a double.
            Some(WireValue::Long(bits)) => {
                i64::try_from(*bits).map_or_else(|_| Value::Json(json!(bits)), Value::Integer)
            }
            Some(WireValue::Float(value)) => float((*value).into()),
            Some(WireValue::Double(value)) => float(*value),
            Some(WireValue::Boolean(value)) => Value::Boolean(*value),
            Some(WireValue::Text(text)) => Value::Text(text.clone()),
            Some(
                WireValue::Bytes(bytes) | WireValue::DataSet(bytes) | WireValue::Template(bytes),
            ) => Value::base64(bytes),
        }
    }
}

/// Some encoders extend the sign to 32 bits, some do not.
fn integer(bits: u32, datatype: Option<u32>) -> i64 {
    let [low, second, ..] = bits.to_le_bytes();
    match datatype {
        Some(1) => low.cast_signed().into(),
        Some(2) => i16::from_le_bytes([low, second]).into(),
        Some(3) => bits.cast_signed().into(),
        _ => bits.into(),
    }
}

fn float(value: f64) -> Value {
    if value.is_finite() { Value::Double(value) } else { Value::Null }
}

fn time_ms(timestamp: Option<u64>) -> Option<i64> {
    i64::try_from(timestamp?).ok().filter(|time_ms| TIME_MS.contains(time_ms))
}

/// The payload that asks an edge node for its births.
pub(super) fn rebirth_request(now_ms: i64) -> Vec<u8> {
    let timestamp = u64::try_from(now_ms).ok();
    let metric = WireMetric {
        name: Some("Node Control/Rebirth".to_owned()),
        timestamp,
        datatype: Some(BOOLEAN),
        value: Some(WireValue::Boolean(true)),
        ..WireMetric::default()
    };
    WirePayload { timestamp, metrics: vec![metric.encode_to_vec()], seq: None }.encode_to_vec()
}

#[cfg(test)]
impl Metric {
    /// A metric without a value.
    pub(super) fn test(name: Option<&str>, alias: Option<u64>) -> Self {
        Self::decode(&[]).map_or_else(
            |problem| panic!("{problem}"),
            |empty| Self { name: name.map(str::to_owned), alias, ..empty },
        )
    }

    /// The metric that ties a death to its birth.
    pub(super) fn bd_seq(number: u64) -> Self {
        Self { value: Some(WireValue::Long(number)), ..Self::test(Some("bdSeq"), None) }
    }
}

/// A payload of metrics that have a name, an alias or both.
#[cfg(test)]
pub(super) fn test_bytes(seq: Option<u8>, metrics: &[(Option<&str>, Option<u64>)]) -> Vec<u8> {
    let metrics = metrics.iter().map(|(name, alias)| {
        let name = name.map(str::to_owned);
        WireMetric { name, alias: *alias, ..WireMetric::default() }.encode_to_vec()
    });
    let (timestamp, seq) = (Some(1_763_700_000_000), seq.map(u64::from));
    WirePayload { timestamp, metrics: metrics.collect(), seq }.encode_to_vec()
}

/// Payloads as Google's own encoder writes them: protobuf 7.36 for Python over `sparkplug_b.proto`,
/// run once. `nbirth` has properties and metadata, `dbirth` a value of each type and an extension.
#[cfg(test)]
pub(super) mod frozen {
    pub(crate) const NBIRTH: &str = include_str!("frozen/nbirth.hex");
    pub(crate) const NDATA: &str = include_str!("frozen/ndata.hex");
    pub(crate) const DBIRTH: &str = include_str!("frozen/dbirth.hex");
    pub(crate) const NDEATH: &str = include_str!("frozen/ndeath.hex");
    pub(crate) const REBIRTH: &str = include_str!("frozen/rebirth.hex");

    /// When they were made.
    pub(crate) const TIME_MS: i64 = 1_763_700_000_000;

    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::frozen::{DBIRTH, NBIRTH, NDATA, NDEATH, REBIRTH, TIME_MS, bytes};
    use super::*;

    fn decoded(hex: &str) -> Payload {
        Payload::decode(&bytes(hex)).expect("a payload")
    }

    #[test]
    fn a_birth_of_another_encoder_is_read() {
        let birth = decoded(NBIRTH);
        assert_eq!((birth.time_ms, birth.seq, birth.bd_seq()), (Some(TIME_MS), Some(0), Some(7)));
        let metrics: Vec<_> = birth
            .metrics
            .iter()
            .map(|m| (m.name.as_deref().expect("named"), m.alias, m.value(m.datatype)))
            .collect();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(
            metrics,
            [
                ("bdSeq", None, Value::Integer(7)),
                ("Node Control/Rebirth", None, Value::Boolean(false)),
                ("temperature", Some(1), Value::Double(21.5)),
                ("level", Some(2), Value::Integer(-5)),
                ("state", Some(3), text("idle")),
            ]
        );
    }

    #[test]
    fn every_datatype_has_its_value_and_what_is_unknown_is_stepped_over() {
        let birth = decoded(DBIRTH);
        let of = |name: &str| {
            let metric = birth.metrics.iter().find(|m| m.name.as_deref() == Some(name));
            metric.map(|m| m.value(m.datatype)).expect(name)
        };
        for (name, number) in [
            ("i8 as a byte", -5),
            ("i16", i64::from(i16::MIN)),
            ("i32", i64::from(i32::MIN)),
            ("i64", -2),
            ("u8", 200),
            ("u32", i64::from(u32::MAX)),
            ("when", TIME_MS),
        ] {
            assert_eq!(of(name), Value::Integer(number), "{name}");
        }
        assert_eq!(of("u64"), Value::Json(json!(u64::MAX)));
        assert_eq!(of("double"), Value::Double(0.1));
        assert_eq!(of("nan"), Value::Null);
        assert_eq!(of("boolean"), Value::Boolean(true));
        assert_eq!(of("text"), Value::Text("grün".to_owned()));
        assert_eq!(of("uuid"), Value::Text("7f5a".to_owned()));
        assert_eq!(of("bytes"), Value::Json(json!({ "base64": "/wA=" })));
        assert!(matches!(of("table"), Value::Json(_)));
    }

    #[test]
    fn data_has_aliases_nulls_and_history() {
        let data = decoded(NDATA);
        let aliases: Vec<_> = data.metrics.iter().map(|m| (m.alias, m.is_historical)).collect();
        let expected = [(1, false), (2, false), (3, false), (1, true)];
        assert_eq!(aliases, expected.map(|(alias, historical)| (Some(alias), historical)));
        assert_eq!(data.metrics[1].value(Some(1)), Value::Integer(-2), "the birth says Int8");
        assert_eq!(data.metrics[2].value(Some(12)), Value::Null);
        assert_eq!(data.metrics[3].time_ms, Some(TIME_MS - 60_000));
        assert_eq!(decoded(NDEATH).bd_seq(), Some(7));
    }

    #[test]
    fn a_rebirth_request_has_the_bytes_of_another_encoder() {
        assert_eq!(rebirth_request(TIME_MS), bytes(REBIRTH));
    }

    #[test]
    fn a_payload_that_is_too_much_or_none_says_why() {
        let many = [0x12, 0].repeat(METRICS_MAX + 1);
        for (payload, why) in [
            (&many[..], "20001 metrics"),
            (b"{\"temperature\": 21}", "not a Sparkplug B payload"),
            (&[0x18, 0x80, 0x02], "seq 256"),
            (&[0x12, 1, 0xff], "metric 0"),
        ] {
            let problem = Payload::decode(payload).expect_err(why);
            assert!(problem.contains(why), "{problem}");
        }
        let beyond = Payload::decode(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(beyond.expect("a payload").time_ms, None, "beyond the year 9999");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            which in 0..4_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut payload = bytes([NBIRTH, NDATA, DBIRTH, NDEATH][which]);
            for (index, byte) in changes {
                let at = index.index(payload.len());
                payload[at] = byte;
            }
            payload.truncate(keep.index(payload.len() + 1));
            if let Ok(payload) = Payload::decode(&payload) {
                let _ = payload.bd_seq();
                for metric in &payload.metrics {
                    for datatype in [None, Some(1), Some(4), Some(12), metric.datatype] {
                        let _ = metric.value(datatype).to_json();
                    }
                }
            }
        }
    }
}
