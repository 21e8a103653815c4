//! `mqtt.unix`, `[mqtt.tls]` and `[mqtt.websocket]`: the ways in beside plain TCP.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use toml::Spanned;

use super::super::{TlsConfig, WebSocketConfig, raw};
use super::Checker;
use crate::mqtt::{TlsPart, check_tls};

/// What the system has room for in the address of a socket, without the NUL at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Checker<'_> {
    pub(super) fn unix(&mut self, raw: &Spanned<String>) -> Option<PathBuf> {
        let path = self.path(raw.get_ref());
        self.take("mqtt.unix", raw, |text| match path.as_os_str().as_bytes().len() {
            _ if text.is_empty() => {
                Err("an empty path: write one like \"/run/headwater/mqtt.sock\"".to_owned())
            }
            1..=SOCKET_PATH_BYTES_MAX => Ok(path),
            bytes => Err(format!(
                "{bytes} bytes: the path of a socket has at most {SOCKET_PATH_BYTES_MAX}; choose a \
                 shorter one"
            )),
        })
    }

    pub(super) fn tls(&mut self, raw: &raw::Tls) -> TlsConfig {
        let config = TlsConfig {
            listen: self.address("mqtt.tls.listen", raw.listen.as_ref(), 8883),
            certificate: self.path(raw.certificate.get_ref()),
            key: self.path(raw.key.get_ref()),
            client_ca: raw.client_ca.as_ref().map(|ca| self.path(ca.get_ref())),
        };
        for fault in check_tls(&config) {
            let text = match fault.part {
                TlsPart::Certificate => &raw.certificate,
                TlsPart::Key => &raw.key,
                TlsPart::ClientCa => raw.client_ca.as_ref().unwrap_or(&raw.certificate),
            };
            self.fault(text.span().start, fault.part.config_key(), fault.text());
        }
        config
    }

    pub(super) fn websocket(&mut self, raw: &raw::WebSocket, has_tls: bool) -> WebSocketConfig {
        let listen = self.address("mqtt.websocket.listen", raw.listen.as_ref(), 8083);
        let tls = self.take_or("mqtt.websocket.tls", raw.tls.as_ref(), false, |tls| match *tls {
            true if !has_tls => {
                Err("there is no [mqtt.tls] whose certificate it could show; add it".to_owned())
            }
            tls => Ok(tls),
        });
        WebSocketConfig { listen, tls }
    }
}
