//! Packets as bytes, read and written by the specification alone: nothing here is the gateway's.

/// The protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const UNSUBACK: u8 = 11;
pub(crate) const DISCONNECT: u8 = 14;

/// Bits of the first byte of PUBLISH.
pub(crate) const RETAIN: u8 = 1;
pub(crate) const QOS1: u8 = 2;
pub(crate) const QOS2: u8 = 4;
pub(crate) const DUP: u8 = 8;

/// Bits of the subscription options of 5.
pub(crate) const NO_LOCAL: u8 = 4;
pub(crate) const AS_PUBLISHED: u8 = 8;
pub(crate) const RETAINED_IF_NEW: u8 = 0x10;
pub(crate) const RETAINED_NEVER: u8 = 0x20;

/// Property identifiers of 5 (section 2.2.2.2).
pub(crate) mod prop {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const PROBLEM_INFO: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const RESPONSE_INFO: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON: u8 = 0x1F;
    pub(crate) const RECEIVE_MAX: u8 = 0x21;
    pub(crate) const ALIAS_MAX: u8 = 0x22;
    pub(crate) const ALIAS: u8 = 0x23;
    pub(crate) const MAX_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const PACKET_MAX: u8 = 0x27;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// A variable byte integer (5, section 1.5.5).
pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

/// Two length bytes and the bytes.
pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("two length bytes say it");
    [&length.to_be_bytes(), bytes].concat()
}

/// First byte, remaining length, body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &varint(body.len())[..], body].concat()
}

/// A property with a value of one byte.
pub(crate) fn byte(id: u8, value: u8) -> Vec<u8> {
    vec![id, value]
}

/// A property with a value of two bytes.
pub(crate) fn two(id: u8, value: u16) -> Vec<u8> {
    [&[id], &value.to_be_bytes()[..]].concat()
}

/// A property with a value of four bytes.
pub(crate) fn four(id: u8, value: u32) -> Vec<u8> {
    [&[id], &value.to_be_bytes()[..]].concat()
}

/// A property with a text or bytes.
pub(crate) fn string(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[id], &binary(value.as_ref())[..]].concat()
}

/// A user property.
pub(crate) fn user(key: &str, value: &str) -> Vec<u8> {
    [string(prop::USER, key), binary(value.as_bytes())].concat()
}

/// A subscription identifier.
pub(crate) fn subscription_id(value: usize) -> Vec<u8> {
    [vec![prop::SUBSCRIPTION_ID], varint(value)].concat()
}

/// Properties with their length in 5, nothing in 3.1.1.
pub(crate) fn properties(version: Version, bytes: &[u8]) -> Vec<u8> {
    match version {
        Version::V3 => {
            assert!(bytes.is_empty(), "3.1.1 has no properties");
            Vec::new()
        }
        Version::V5 => [&varint(bytes.len())[..], bytes].concat(),
    }
}

/// A will.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// `QOS1`, `QOS2`, `RETAIN`, as in PUBLISH.
    pub(crate) flags: u8,
    pub(crate) properties: Vec<u8>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str, flags: u8) -> Self {
        Self { topic: topic.into(), payload: payload.into(), flags, properties: Vec::new() }
    }

    pub(crate) fn properties(mut self, properties: &[Vec<u8>]) -> Self {
        self.properties = properties.concat();
        self
    }
}

/// CONNECT in the making.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    name: Vec<u8>,
    level: u8,
    client: Vec<u8>,
    clean: bool,
    keep_alive_s: u16,
    properties: Vec<u8>,
    will: Option<Will>,
    user: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    flip: u8,
    tail: Vec<u8>,
}

impl Connect {
    /// A clean session without keep-alive, will and login.
    pub(crate) fn new(version: Version, client: impl AsRef<[u8]>) -> Self {
        Self {
            version,
            name: b"MQTT".to_vec(),
            level: if version == Version::V3 { 4 } else { 5 },
            client: client.as_ref().to_vec(),
            clean: true,
            keep_alive_s: 0,
            properties: Vec::new(),
            will: None,
            user: None,
            password: None,
            flip: 0,
            tail: Vec::new(),
        }
    }

    /// Takes up the session that is there, and leaves one: for ever in 3.1.1, an hour in 5.
    pub(crate) fn lasting(mut self) -> Self {
        self.clean = false;
        if self.version == Version::V5 {
            self.properties.extend(four(prop::SESSION_EXPIRY, 3600));
        }
        self
    }

    pub(crate) fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub(crate) fn with(mut self, properties: &[Vec<u8>]) -> Self {
        self.properties.extend(properties.concat());
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn user(mut self, user: impl AsRef<[u8]>) -> Self {
        self.user = Some(user.as_ref().to_vec());
        self
    }

    pub(crate) fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    pub(crate) fn protocol(mut self, name: &str, level: u8) -> Self {
        self.name = name.into();
        self.level = level;
        self
    }

    /// Inverts these connect flags, whatever the fields say.
    pub(crate) fn flip(mut self, flags: u8) -> Self {
        self.flip = flags;
        self
    }

    /// More bytes at the end.
    pub(crate) fn tail(mut self, bytes: &[u8]) -> Self {
        self.tail = bytes.to_vec();
        self
    }

    fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| {
            let (qos, retain) = ((will.flags >> 1) & 3, will.flags & 1);
            0x04 | qos << 3 | retain << 5
        });
        let login = u8::from(self.user.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        (login | will | u8::from(self.clean) << 1) ^ self.flip
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = binary(&self.name);
        body.extend([self.level, self.flags()]);
        body.extend(self.keep_alive_s.to_be_bytes());
        body.extend(properties(self.version, &self.properties));
        body.extend(binary(&self.client));
        if let Some(will) = &self.will {
            body.extend(properties(self.version, &will.properties));
            body.extend(binary(&will.topic));
            body.extend(binary(&will.payload));
        }
        for field in [&self.user, &self.password].into_iter().flatten() {
            body.extend(binary(field));
        }
        body.extend(&self.tail);
        body
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        packet(0x10, &self.body())
    }
}

/// PUBLISH in the making.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) flags: u8,
    pub(crate) topic: Vec<u8>,
    pub(crate) id: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn new(flags: u8, topic: impl AsRef<[u8]>, id: u16, payload: &str) -> Self {
        let topic = topic.as_ref().to_vec();
        Self { flags, topic, id, properties: Vec::new(), payload: payload.into() }
    }

    pub(crate) fn with(mut self, properties: &[Vec<u8>]) -> Self {
        self.properties = properties.concat();
        self
    }

    pub(crate) fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = binary(&self.topic);
        if self.flags & (QOS1 | QOS2) != 0 {
            body.extend(self.id.to_be_bytes());
        }
        body.extend(properties(version, &self.properties));
        body.extend(&self.payload);
        packet(PUBLISH << 4 | self.flags, &body)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the short form, which both versions have.
pub(crate) fn ack(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    packet(kind << 4 | flags, &id.to_be_bytes())
}

/// The same with a reason code, which 5 has.
pub(crate) fn ack_with(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    let [high, low] = id.to_be_bytes();
    packet(kind << 4 | flags, &[high, low, reason])
}

/// SUBSCRIBE; the options are the QoS alone in 3.1.1.
pub(crate) fn subscribe(
    version: Version,
    id: u16,
    properties_: &[Vec<u8>],
    filters: &[(impl AsRef<[u8]>, u8)],
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(version, &properties_.concat()));
    for (filter, options) in filters {
        body.extend(binary(filter.as_ref()));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE.
pub(crate) fn unsubscribe(version: Version, id: u16, filters: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(version, &[]));
    for filter in filters {
        body.extend(binary(filter.as_ref()));
    }
    packet(0xA2, &body)
}

/// DISCONNECT of 5 with a reason and properties.
pub(crate) fn disconnect(reason: u8, properties_: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties(Version::V5, &properties_.concat());
    packet(0xE0, &[&[reason], &properties[..]].concat())
}
