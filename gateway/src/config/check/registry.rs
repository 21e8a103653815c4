//! `[upstream.NAME.registry]`.

use toml::Spanned;

use super::super::{RegistryConfig, RegistryLogin, raw, secret};
use super::Checker;
use crate::forward::check_registry_url;

impl Checker<'_> {
    /// The registry of the upstream whose key is `key`.
    pub(super) fn registry(
        &mut self,
        key: &str,
        raw: &raw::SchemaRegistry,
    ) -> Option<RegistryConfig> {
        let url = self.take(&format!("{key}.registry.url"), &raw.url, |url| {
            check_registry_url(url).map(|()| url.clone())
        });
        let password = self.registry_secret(key, "password", raw.password.as_ref());
        let token = self.registry_secret(key, "token", raw.token.as_ref());
        let login = match (raw.username.as_ref(), raw.password.as_ref(), raw.token.as_ref()) {
            (None, None, None) => None,
            (Some(username), Some(_), None) => Some(RegistryLogin::Basic {
                username: username.get_ref().clone(),
                password: password?,
            }),
            (None, None, Some(_)) => Some(RegistryLogin::Token(token?)),
            _ => {
                let fault = "write username and password, or token, or none of them";
                self.fault(raw.url.span().start, &format!("{key}.registry"), fault);
                None
            }
        };
        let base = self.base.to_path_buf();
        let ca = raw.ca.as_ref().and_then(|ca| {
            self.take(&format!("{key}.registry.ca"), ca, |path| {
                let path = base.join(path);
                match std::fs::metadata(&path) {
                    Ok(_) => Ok(path),
                    Err(why) => Err(format!("{}: {why}; give the CA's PEM file", path.display())),
                }
            })
        });
        Some(RegistryConfig { url: url?, login, ca })
    }

    fn registry_secret(
        &mut self,
        key: &str,
        name: &str,
        text: Option<&Spanned<String>>,
    ) -> Option<String> {
        let base = self.base.to_path_buf();
        let text = text?;
        self.take(&format!("{key}.registry.{name}"), text, |text| secret::resolve(text, &base))
    }
}
