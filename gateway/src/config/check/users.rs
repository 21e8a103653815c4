//! Users, clients without a name, and what they may do.

use std::collections::BTreeSet;

use toml::Spanned;

use super::super::secret::resolve;
use super::super::{AnonymousConfig, LimitsConfig, RulesConfig, UserConfig, parse_size, raw};
use super::{Checker, check_name};
use crate::mqtt::{check_password_hash, check_rule};

/// A slower limit would hold one packet of the usual size back for minutes.
const BYTES_MIN: u64 = 1 << 10;

impl Checker<'_> {
    pub(super) fn users(&mut self, raw: &[raw::User]) -> Vec<UserConfig> {
        let mut users = Vec::new();
        let mut names = BTreeSet::new();
        let base = self.base.to_path_buf();
        for user in raw {
            let name = self.take("user.name", &user.name, |name| {
                let name = check_name(name)?;
                if names.insert(name.clone()) {
                    return Ok(name);
                }
                Err(format!("there are two users {name:?}; remove one or choose another name"))
            });
            let hash = self.take("user.password", &user.password, |hash| {
                let hash = resolve(hash, &base)?;
                check_password_hash(&hash).map(|()| hash)
            });
            let mut rules = self.rules("user", [&user.publish, &user.subscribe, &user.deny]);
            let gateway = user.gateway.as_ref();
            rules.gateway =
                gateway.and_then(|id| self.take("user.gateway", id, |id| check_name(id)));
            let limits = self.limits(
                "user",
                user.max_connections.as_ref(),
                user.max_rate.as_ref(),
                user.max_bytes.as_ref(),
            );
            if let (Some(name), Some(password_hash)) = (name, hash) {
                users.push(UserConfig { name, password_hash, rules, limits });
            }
        }
        users
    }

    pub(super) fn anonymous(&mut self, raw: &raw::Rules) -> AnonymousConfig {
        AnonymousConfig {
            rules: self.rules("anonymous", [&raw.publish, &raw.subscribe, &raw.deny]),
            limits: self.limits(
                "anonymous",
                raw.max_connections.as_ref(),
                raw.max_rate.as_ref(),
                raw.max_bytes.as_ref(),
            ),
        }
    }

    fn rules(&mut self, key: &str, lists: [&Vec<Spanned<String>>; 3]) -> RulesConfig {
        let names = ["publish", "subscribe", "deny"];
        let mut checked = lists.into_iter().zip(names).map(|(list, name)| {
            list.iter()
                .filter_map(|rule| {
                    self.take(&format!("{key}.{name}"), rule, |text| {
                        check_rule(text).map(|()| text.clone())
                    })
                })
                .collect::<Vec<_>>()
        });
        let mut next = || checked.next().expect("three lists were given");
        RulesConfig { publish: next(), subscribe: next(), deny: next(), gateway: None }
    }

    fn limits(
        &mut self,
        key: &str,
        connections: Option<&Spanned<u32>>,
        rate: Option<&Spanned<u32>>,
        bytes: Option<&Spanned<String>>,
    ) -> LimitsConfig {
        let remedy = "write 1 or more, or remove the key for no limit";
        let some = |number: &u32| match number {
            0 => Err(format!("0 lets nothing in: {remedy}")),
            _ => Ok(*number),
        };
        let max_connections = connections
            .and_then(|number| self.take(&format!("{key}.max_connections"), number, some));
        let max_rate = rate.and_then(|number| self.take(&format!("{key}.max_rate"), number, some));
        let max_bytes = bytes.and_then(|text| {
            self.take(&format!("{key}.max_bytes"), text, |text| match parse_size(text)? {
                bytes @ BYTES_MIN.. => Ok(bytes),
                _ => Err(format!("{text:?} a second: write 1 KiB or more")),
            })
        });
        LimitsConfig { max_connections, max_rate, max_bytes }
    }
}
