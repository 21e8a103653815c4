//! CONNECT, which says the version of all that follows.
//!
//! ```text
//! "MQTT" | level (1) | flags (1) | keep-alive (2) | [5: properties] | client id
//!        | [will: [5: properties] | topic | payload] | [user name] | [password]
//!
//! flags   user name 0x80 | password 0x40 | will retain 0x20 | will QoS 0x18 | will 0x04
//!         | clean 0x02 | 0x01 is 0
//! ```

use headwater_shared::origin::property;

use crate::mqtt::frame::{self, Frame, take_binary, take_text, take_u16};
use crate::mqtt::packet::{Connect, Fault, Login, Version, Will, reason};
use crate::mqtt::properties::{self, Property, id};

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// A CONNECT that cannot be answered by a CONNACK of its version, or not at all.
#[derive(Debug)]
pub(crate) enum BadConnect {
    /// Not MQTT, or not in the form of 3.1.1, which has no code for that: close without a word.
    Silent(Fault),
    /// Answer in this version.
    Refused(Version, Fault),
}

/// Reads CONNECT.
pub(crate) fn read_connect(frame: &Frame<'_>) -> Result<Connect, BadConnect> {
    if frame.kind != frame::CONNECT {
        return Err(BadConnect::Silent(Fault::protocol("the first packet is not CONNECT")));
    }
    let mut rest = frame.body;
    let version = version(&mut rest)?;
    let connect = frame.check_shape(version, 0).and_then(|()| fields(version, rest));
    connect.map_err(|fault| match version {
        Version::V4 => BadConnect::Silent(fault),
        Version::V5 => BadConnect::Refused(version, fault),
    })
}

fn version(rest: &mut &[u8]) -> Result<Version, BadConnect> {
    let name = take_text(rest).map_err(BadConnect::Silent)?;
    let level = take_byte(rest).map_err(BadConnect::Silent)?;
    match (name, level) {
        ("MQTT", 4) => Ok(Version::V4),
        ("MQTT", 5) => Ok(Version::V5),
        ("MQTT" | "MQIsdp", _) => {
            let why = format!("protocol {name} level {level}; 4 (3.1.1) and 5 are spoken here");
            let version = if level < 5 { Version::V4 } else { Version::V5 };
            Err(BadConnect::Refused(version, Fault::new(reason::UNSUPPORTED_VERSION, why)))
        }
        _ => Err(BadConnect::Silent(Fault::malformed("a protocol other than MQTT"))),
    }
}

fn fields(version: Version, mut rest: &[u8]) -> Result<Connect, Fault> {
    let flags = take_byte(&mut rest)?;
    check_flags(version, flags)?;
    let mut connect = Connect {
        version,
        client: String::new(),
        clean: flags & CLEAN != 0,
        keep_alive_s: take_u16(&mut rest)?,
        login: None,
        will: None,
        expiry_s: 0,
        receive_maximum: u16::MAX,
        packet_bytes_max: u32::MAX,
        alias_max: 0,
        auth_method: false,
        incarnation: None,
    };
    match version {
        Version::V4 if connect.clean => {}
        Version::V4 => connect.expiry_s = u32::MAX,
        Version::V5 => take_properties(&mut rest, &mut connect)?,
    }
    take_text(&mut rest)?.clone_into(&mut connect.client);
    if flags & WILL != 0 {
        connect.will = Some(take_will(version, flags, &mut rest)?);
    }
    connect.login = take_login(flags, &mut rest)?;
    if rest.is_empty() {
        Ok(connect)
    } else {
        Err(Fault::malformed("a CONNECT with more in it than its flags say"))
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), Fault> {
    if flags & RESERVED != 0 {
        return Err(Fault::malformed("the reserved flag set in CONNECT"));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(Fault::malformed("will flags without a will"));
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(Fault::malformed("a will of QoS 3"));
    }
    if version == Version::V4 && flags & (USER_NAME | PASSWORD) == PASSWORD {
        return Err(Fault::malformed("a password without a user name"));
    }
    Ok(())
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, Fault> {
    let Some((&byte, left)) = rest.split_first() else {
        return Err(Fault::malformed("a CONNECT that ends too early"));
    };
    *rest = left;
    Ok(byte)
}

const IN_CONNECT: &[u8] = &[
    id::SESSION_EXPIRY,
    id::AUTH_METHOD,
    id::AUTH_DATA,
    id::PROBLEM_INFORMATION,
    id::RESPONSE_INFORMATION,
    id::RECEIVE_MAXIMUM,
    id::ALIAS_MAXIMUM,
    id::USER_PROPERTY,
    id::PACKET_BYTES_MAX,
];

fn take_properties(rest: &mut &[u8], connect: &mut Connect) -> Result<(), Fault> {
    let mut auth_data = false;
    properties::walk(properties::take(rest)?, IN_CONNECT, |said| {
        match said.id {
            id::SESSION_EXPIRY => connect.expiry_s = said.four(),
            id::RECEIVE_MAXIMUM => connect.receive_maximum = said.two(),
            id::PACKET_BYTES_MAX => connect.packet_bytes_max = said.four(),
            id::ALIAS_MAXIMUM => connect.alias_max = said.two(),
            id::AUTH_METHOD => connect.auth_method = true,
            id::AUTH_DATA => auth_data = true,
            id::USER_PROPERTY => {
                if let (property::INCARNATION, incarnation) = said.pair() {
                    connect.incarnation = Some(incarnation.to_owned());
                }
            }
            id::PROBLEM_INFORMATION | id::RESPONSE_INFORMATION => said.flag().map(drop)?,
            _ => {}
        }
        Ok(())
    })?;
    if connect.receive_maximum == 0 || connect.packet_bytes_max == 0 {
        return Err(Fault::protocol("a receive maximum or a maximum packet size of 0"));
    }
    if auth_data && !connect.auth_method {
        return Err(Fault::protocol("authentication data without a method"));
    }
    Ok(())
}

const IN_WILL: &[u8] = &[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::WILL_DELAY,
    id::USER_PROPERTY,
];

fn take_will(version: Version, flags: u8, rest: &mut &[u8]) -> Result<Will, Fault> {
    let mut delay_s = 0;
    let mut travelling = Vec::new();
    if version == Version::V5 {
        properties::walk(properties::take(rest)?, IN_WILL, |property: Property<'_>| {
            if property.id == id::WILL_DELAY {
                delay_s = property.four();
                return Ok(());
            }
            property.check_value()?;
            travelling.extend_from_slice(property.whole);
            Ok(())
        })?;
    }
    Ok(Will {
        topic: take_text(rest)?.to_owned(),
        payload: take_binary(rest)?.to_vec(),
        qos: (flags & WILL_QOS) >> 3,
        retain: flags & WILL_RETAIN != 0,
        delay_s,
        properties: travelling,
    })
}

fn take_login(flags: u8, rest: &mut &[u8]) -> Result<Option<Login>, Fault> {
    let user = if flags & USER_NAME != 0 { Some(take_text(rest)?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(take_binary(rest)?) } else { None };
    if user.is_none() && password.is_none() {
        return Ok(None);
    }
    Ok(Some(Login {
        user: user.unwrap_or_default().to_owned(),
        password: password.unwrap_or_default().to_vec(),
    }))
}
