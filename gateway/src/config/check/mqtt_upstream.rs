//! `[upstream.NAME]` of kind `mqtt`, and the topics of its routes.

use std::path::PathBuf;

use toml::Spanned;

use super::super::{MqttUpstream, MqttVersion, StreamConfig, UpstreamTls, parse_time, raw, secret};
use super::Checker;
use crate::forward::{TopicNames, check_mqtt_topic, check_upstream_tls};
use crate::stream::MQTT_STREAM;

/// Where Debian keeps the CAs that it trusts.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// 23 bytes are taken by every server; this much by those in use.
const CLIENT_ID_BYTES_MAX: usize = 256;

const KEEP_ALIVE_DEFAULT_S: u16 = 30;

impl Checker<'_> {
    pub(super) fn mqtt_upstream(&mut self, key: &str, raw: &raw::Upstream) -> Option<MqttUpstream> {
        let at = |name: &str| format!("{key}.{name}");
        let default_port = if raw.tls.is_some() { 8883 } else { 1883 };
        let Some(broker) = &raw.broker else {
            let fault = "an mqtt upstream needs broker = \"host:1883\"";
            self.fault(raw.kind.span().start, &at("broker"), fault);
            return None;
        };
        let broker = self.take(&at("broker"), broker, |text| host_and_port(text, default_port));
        let version =
            self.take_or(&at("version"), raw.version.as_ref(), MqttVersion::V5, |text| match text
                .as_str()
            {
                "5" => Ok(MqttVersion::V5),
                "3.1.1" => Ok(MqttVersion::V4),
                _ => Err(format!("{text:?}: write \"5\" or \"3.1.1\"")),
            });
        let client_id = raw.client_id.as_ref();
        let client_id = client_id.and_then(|id| self.take(&at("client_id"), id, check_client_id));
        let username = raw.username.as_ref().and_then(|name| self.secret(&at("username"), name));
        let password = raw.password.as_ref().and_then(|word| self.secret(&at("password"), word));
        if let (None, Some(password)) = (&raw.username, &raw.password) {
            let fault = "a password without a user name: add username, or remove it";
            self.fault(password.span().start, &at("password"), fault);
        }
        let keep_alive = raw.keep_alive.as_ref();
        let keep_alive_s =
            self.take_or(&at("keep_alive"), keep_alive, KEEP_ALIVE_DEFAULT_S, |text| {
                keep_alive_s(text)
            });
        let tls = raw.tls.as_ref().map(|tls| self.upstream_tls(&at("tls"), tls));
        let exactly_once = raw.exactly_once.as_ref();
        let exactly_once =
            self.take_or(&at("exactly_once"), exactly_once, false, |wanted| {
                match (wanted, version) {
                    (true, MqttVersion::V4) => {
                        Err("MQTT 3.1.1 carries no identity: write version = \"5\"".to_owned())
                    }
                    _ => Ok(*wanted),
                }
            });
        let (host, port) = broker?;
        Some(MqttUpstream {
            host,
            port,
            version,
            client_id,
            username,
            password,
            keep_alive_s,
            tls,
            exactly_once,
        })
    }

    /// A text, or where it stands: `file:PATH` or `env:NAME`.
    fn secret(&mut self, key: &str, text: &Spanned<String>) -> Option<String> {
        let base = self.base.to_path_buf();
        self.take(key, text, |text| secret::resolve(text, &base))
    }

    fn upstream_tls(&mut self, key: &str, raw: &Spanned<raw::UpstreamTls>) -> UpstreamTls {
        let at = raw.span().start;
        let raw = raw.get_ref();
        let path = |text: &Spanned<String>| self.path(text.get_ref());
        let ca = raw.ca.as_ref().map_or_else(|| PathBuf::from(SYSTEM_CAS), path);
        let (certificate, own_key) = (raw.certificate.as_ref(), raw.key.as_ref());
        let own = certificate.zip(own_key).map(|(a, b)| (path(a), path(b)));
        if certificate.is_some() != own_key.is_some() {
            self.fault(at, key, "certificate and key go together: write both, or neither");
        }
        let tls = UpstreamTls { ca, own };
        if let Err(fault) = check_upstream_tls(&tls) {
            self.fault(at, key, fault);
        }
        tls
    }
}

/// What a template may name for a route of `stream`.
pub(super) fn check_topic(
    text: &str,
    stream: Option<&str>,
    streams: &[StreamConfig],
) -> Result<String, String> {
    let config = streams.iter().find(|config| Some(config.name.as_str()) == stream);
    let is_rejected = stream.is_some_and(|stream| stream.ends_with(".rejected"));
    let names = TopicNames {
        pattern: config.map(|config| &config.topic),
        key: config.and_then(|config| config.key.as_deref()),
        has_topic: config.is_some() || is_rejected || stream == Some(MQTT_STREAM),
    };
    check_mqtt_topic(text, names).map(|()| text.to_owned())
}

fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong = || {
        format!("{text:?} is not a broker: write a name or an address and a port, \"host:1883\"")
    };
    if text.contains("://") || text.contains(',') || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    // An IPv6 address stands in brackets.
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => default_port,
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    if host.is_empty() || port == 0 { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

fn check_client_id(id: &String) -> Result<String, String> {
    let fits = (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && !id.contains(char::is_control);
    if fits { Ok(id.clone()) } else { Err(format!("{id:?}: write 1 to 256 bytes of text")) }
}

fn keep_alive_s(text: &str) -> Result<u16, String> {
    let time = parse_time(text)?;
    u16::try_from(time.as_secs())
        .ok()
        .filter(|seconds| (5..=18 * 3600).contains(seconds))
        .ok_or_else(|| format!("{text:?}: write a time from 5s to 18h"))
}
