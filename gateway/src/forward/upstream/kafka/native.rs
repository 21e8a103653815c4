//! What librdkafka does and rdkafka does not pass on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;

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

/// `RD_KAFKA_PARTITION_UA`: the client places the record.
const UNASSIGNED: i32 = -1;

/// A topic of a producer, which outlives it. To send to one by name has it looked for each time.
pub(super) struct Topic(*mut sys::rd_kafka_topic_t);

// SAFETY: librdkafka's objects may be used from any thread.
unsafe impl Send for Topic {}

impl Topic {
    /// # Errors
    /// [`Fault`] where the client does not take the name.
    pub(super) fn new<C: ClientContext>(client: &Client<C>, name: &str) -> Result<Self, Fault> {
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the client lives as long as the borrow, and the name is copied.
        let topic =
            unsafe { sys::rd_kafka_topic_new(client.native_ptr(), text.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(Fault::refused(format!("{name:?} is not a topic: correct the route")));
        }
        Ok(Self(topic))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: it was made by `new`, and its client is still alive.
        unsafe { sys::rd_kafka_topic_destroy(self.0) };
    }
}

/// A record on its way to the client's queue.
pub(super) struct Item<'a> {
    /// `None`: where its key belongs.
    pub(super) partition: Option<i32>,
    pub(super) key: &'a [u8],
    /// `None`: the key is deleted.
    pub(super) value: Option<&'a [u8]>,
    /// ms since 1970; `None`: the time of sending.
    pub(super) time_ms: Option<i64>,
    /// By name; those without a value are left out.
    pub(super) headers: &'a [(&'static str, Option<&'a str>)],
}

/// Puts a record into the queue of a producer, which copies it; `number` comes back with its delivery.
/// As rdkafka's `send`, but for the texts that that one allocates for each header.
///
/// # Errors
/// Why it was not taken.
pub(super) fn produce<C: ClientContext>(
    client: &Client<C>,
    topic: &Topic,
    record: &Item<'_>,
    number: usize,
) -> Result<(), Code> {
    use sys::rd_kafka_vtype_t as Type;
    let (value, value_len) = record.value.map_or((ptr::null(), 0), |v| (v.as_ptr(), v.len()));
    // SAFETY: each tag is followed by the values that librdkafka's documentation names for it, of the
    // types of its prototype; texts and bytes live until the call returns, which copies them; the
    // topic is one of this client's and alive; the headers are given away where the call succeeds.
    let code = unsafe {
        let headers = headers(record.headers);
        let code = sys::rd_kafka_producev(
            client.native_ptr(),
            Type::RD_KAFKA_VTYPE_RKT,
            topic.0,
            Type::RD_KAFKA_VTYPE_PARTITION,
            record.partition.unwrap_or(UNASSIGNED),
            Type::RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY,
            Type::RD_KAFKA_VTYPE_VALUE,
            value.cast::<c_void>(),
            value_len,
            Type::RD_KAFKA_VTYPE_KEY,
            record.key.as_ptr().cast::<c_void>(),
            record.key.len(),
            Type::RD_KAFKA_VTYPE_TIMESTAMP,
            record.time_ms.unwrap_or(0),
            Type::RD_KAFKA_VTYPE_OPAQUE,
            number as *mut c_void,
            Type::RD_KAFKA_VTYPE_HEADERS,
            headers,
            Type::RD_KAFKA_VTYPE_END,
        );
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            sys::rd_kafka_headers_destroy(headers);
        }
        code
    };
    match code {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// # Safety
/// Whoever calls it gives them to librdkafka or destroys them.
unsafe fn headers(all: &[(&'static str, Option<&str>)]) -> *mut sys::rd_kafka_headers_t {
    // SAFETY: names and values are copied, with the lengths that they have.
    unsafe {
        let headers = sys::rd_kafka_headers_new(all.len());
        for (name, value) in all.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            sys::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value.as_ptr().cast(),
                value.len().cast_signed(),
            );
        }
        headers
    }
}

/// Waits until the brokers have all records of a producer, no longer than `within`; false where they
/// do not. Failed deliveries count until they are served. What gathers for a batch goes at once.
pub(super) fn flush<C: ClientContext>(client: &Client<C>, within: Duration) -> bool {
    let within_ms = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives as long as the borrow.
    let code = unsafe { sys::rd_kafka_flush(client.native_ptr(), within_ms) };
    code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
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
