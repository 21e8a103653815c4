//! Texts that are parsed.

use headwater_shared::decimal::Decimal;
use headwater_shared::topic as node_topic;

/// Any text gives a decimal that reads back as the same, or an error.
pub fn decimal(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(value) = text.parse::<Decimal>() else { return };
    assert_eq!(value.to_string().parse(), Ok(value));
    let exact = value.normalized();
    assert_eq!(exact.mantissa_at(value.scale), Some(value.mantissa));
    assert_eq!(exact.normalized(), exact);
    // Both round once where the mantissa fits a float.
    if value.mantissa.unsigned_abs() <= 1 << 53 {
        assert_eq!(text.trim_start_matches('+').parse(), Ok(value.to_f64()));
    }
}

/// Any text gives the parts of a node's topic, from which the same topic is made, or nothing.
pub fn topic(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some((node, subject)) = node_topic::parse(text) {
        assert!(node_topic::is_node_id(node));
        assert!(text.len() <= node_topic::TOPIC_MAX + 4);
        let made = node_topic::topic(node, subject);
        assert_eq!(made.as_deref(), Some(text));
    }
    if let Some(made) = node_topic::topic(text, node_topic::Subject::TimeReply) {
        assert_eq!(node_topic::parse(&made), Some((text, node_topic::Subject::TimeReply)));
    }
}
