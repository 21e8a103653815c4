//! What librdkafka does and rdkafka does not pass on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::os::raw::c_char;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

use super::oauth::Token;
use crate::forward::upstream::Fault;

/// Room for a message of librdkafka.
const MESSAGE_BYTES: usize = 512;

/// Gives a client a token before it is polled.
///
/// # Errors
/// [`Fault`] where the client cannot use it.
pub(super) fn give_token<C: ClientContext>(client: &Client<C>, token: &Token) -> Result<(), Fault> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| Fault::refused("the token has a zero byte in it"))
    };
    let (value, principal) = (text(&token.value)?, text(&token.principal)?);
    let mut message = [0 as c_char; MESSAGE_BYTES];
    // SAFETY: the client lives as long as the borrow; the texts end with a zero byte and are copied
    // by the call; there are no extensions; `message` has the length that is told.
    let code = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka ends its message with a zero byte, and an untouched one is all zeros.
    let why = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy();
    Err(Fault::refused(format!("the token cannot be used: {why}; check sasl.* in properties")))
}

/// What a user may do with a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// What this user may do with each of `topics`; one that the cluster does not tell of is missing.
/// Changes nothing.
pub(super) fn rights<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<&str>,
    within: Duration,
) -> BTreeMap<String, Rights> {
    let Some(event) = describe(client, topics, within) else { return BTreeMap::new() };
    let mut count = 0;
    // SAFETY: the event is one that librdkafka gave and is alive; a result of another kind is null.
    let described = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return BTreeMap::new();
        }
        sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
    };
    if described.is_null() {
        return BTreeMap::new();
    }
    // SAFETY: there are so many descriptions, and they live as long as the event.
    let described = unsafe { std::slice::from_raw_parts(described, count) };
    described.iter().filter_map(|topic| rights_of(*topic)).collect()
}

/// `topic` is one of an event that is alive.
fn rights_of(topic: *const sys::rd_kafka_TopicDescription_t) -> Option<(String, Rights)> {
    use sys::rd_kafka_AclOperation_t as Operation;
    let mut count = 0;
    // SAFETY: name and operations live as long as the description; the name ends with a zero byte,
    // and operations that were not told are null.
    let (name, operations) = unsafe {
        let first = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        if first.is_null() {
            return None;
        }
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic));
        (name, std::slice::from_raw_parts(first, count))
    };
    let rights = Rights {
        read: operations.contains(&Operation::RD_KAFKA_ACL_OPERATION_READ),
        write: operations.contains(&Operation::RD_KAFKA_ACL_OPERATION_WRITE),
    };
    Some((name.to_string_lossy().into_owned(), rights))
}

/// An event, destroyed with this value.
struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it came from a poll and is destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<&str>,
    within: Duration,
) -> Option<Event> {
    let texts: Vec<CString> = topics.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut names: Vec<*const c_char> = texts.iter().map(|name| name.as_ptr()).collect();
    let within_ms = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all that is made here is destroyed here, after the last use; the names are copied; an
    // error of an option is null or destroyed; the client outlives the queue.
    let event = unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let odd = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !odd.is_null() {
            sys::rd_kafka_error_destroy(odd);
        }
        sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, within_ms);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        event
    };
    (!event.is_null()).then_some(Event(event))
}
