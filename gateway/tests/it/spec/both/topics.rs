//! Topic names, filters, and how they match.

use crate::spec::client::Gateway;
use crate::spec::packet::{Publish, QOS1, Version};

/// Subscribes to `filter`, publishes to each topic, and says which of them arrived.
async fn matched<'a>(version: Version, filter: &str, topics: &[&'a str]) -> Vec<&'a str> {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe_with(&[], &[(filter, 0), ("the/end", 0)]).await;
    let mut publisher = gateway.join(version, "p").await;
    for topic in topics {
        publisher.publish(0, topic, "x").await;
    }
    publisher.publish(QOS1, "the/end", "end").await;
    let mut found = Vec::new();
    loop {
        let message = subscriber.message().await;
        if message.payload == "end" {
            break;
        }
        found.extend(topics.iter().find(|topic| **topic == message.topic));
    }
    gateway.close().await;
    found
}

async fn refuses_filters(version: Version, filters: &[&str]) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for filter in filters {
        let code = client.subscribe(filter, 0).await;
        let expected = if version == Version::V3 { 0x80 } else { 0x8F };
        assert_eq!(code, expected, "{filter:?}");
    }
    gateway.close().await;
}

pub(crate) async fn a_multi_level_wildcard_stands_alone_and_last(version: Version) {
    refuses_filters(version, &["a#", "#/a", "a/#/b", "a/b#", "##", "a/#/", "#+"]).await;
    let topics = ["a", "a/b", "a/b/c", "b", "/a", "aa", "a/"];
    assert_eq!(matched(version, "a/#", &topics).await, ["a", "a/b", "a/b/c", "a/"]);
    assert_eq!(matched(version, "#", &topics).await, topics);
    assert_eq!(matched(version, "/#", &topics).await, ["/a"]);
}

pub(crate) async fn a_single_level_wildcard_is_a_level_of_its_own(version: Version) {
    refuses_filters(version, &["a+", "+a", "a/+b", "a/b+/c", "++", "a/++"]).await;
    let topics = ["a", "a/b", "/a", "a/b/c", "a/", "/"];
    assert_eq!(matched(version, "+", &topics).await, ["a"]);
    assert_eq!(matched(version, "+/+", &topics).await, ["a/b", "/a", "a/", "/"]);
    assert_eq!(matched(version, "a/+/c", &topics).await, ["a/b/c"]);
    assert_eq!(matched(version, "+/b/#", &topics).await, ["a/b", "a/b/c"]);
}

pub(crate) async fn dollar_topics_are_out_of_the_reach_of_leading_wildcards(version: Version) {
    let topics = ["$x", "$x/a", "a/$x", "a"];
    assert_eq!(matched(version, "#", &topics).await, ["a/$x", "a"]);
    assert_eq!(matched(version, "+/#", &topics).await, ["a/$x", "a"]);
    assert_eq!(matched(version, "+/a", &topics).await, [] as [&str; 0]);
    assert_eq!(matched(version, "$x/#", &topics).await, ["$x", "$x/a"]);
    assert_eq!(matched(version, "$x/+", &topics).await, ["$x/a"]);
}

pub(crate) async fn an_empty_topic_or_filter_is_refused(version: Version) {
    refuses_filters(version, &[""]).await;
    let gateway = Gateway::open();
    let publish = Publish::new(QOS1, "", 1, "x").bytes(version);
    let client = gateway.join(version, "c").await;
    // In 5 it is the missing alias that breaks the protocol, in 3.1.1 the topic.
    client.breaks(&publish, 0x82).await;
    gateway.close().await;
}

pub(crate) async fn topics_and_filters_are_as_long_as_two_bytes_can_say(version: Version) {
    let gateway = Gateway::open();
    let long = "a".repeat(65_535);
    let mut subscriber = gateway.join(version, "s").await;
    assert_eq!(subscriber.subscribe(&long, 0).await, 0);
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, &long, "x").await;
    assert_eq!(subscriber.message().await.topic, long);
    gateway.close().await;
}

pub(crate) async fn topics_are_matched_as_they_are_written(version: Version) {
    // One letter and letter with accent, two slashes and one, case, spaces.
    let topics = ["\u{E9}/a", "e\u{301}/a", "a/b", "a//b", "A/b", " a/b", "a/b/", "a/./b", "%61/b"];
    for filter in topics {
        assert_eq!(matched(version, filter, &topics).await, [filter]);
    }
}
