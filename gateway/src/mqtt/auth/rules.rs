//! Topic rules: what is allowed, with `{user}` and `{client}` for the names of whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use crate::config::RulesConfig;
use crate::stream::{filter_matches, is_filter};
use crate::table::is_table_topic;

const USER: &str = "{user}";
const CLIENT: &str = "{client}";

/// What one client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything.
    All,
    /// What the rules allow; no names are left open in them.
    Rules(RulesConfig),
}

impl Access {
    /// The gateway whose records it may bring in as they are there.
    pub(crate) fn gateway(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Rules(rules) => rules.gateway.as_deref(),
        }
    }

    /// May publish to `topic`; nobody may write a table.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        match self {
            _ if is_table_topic(topic) => false,
            Self::All => true,
            Self::Rules(rules) => any(&rules.publish, topic) && !any(&rules.deny, topic),
        }
    }

    /// May subscribe to `filter`: all of it is allowed, and not all of it is denied.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => {
                rules.subscribe.iter().any(|allowed| covers(allowed, filter))
                    && !rules.deny.iter().any(|denied| covers(denied, filter))
            }
        }
    }

    /// May receive a message on `topic`: a wide subscription does not reach what is denied, and one
    /// of before a reload reaches only what is still allowed.
    pub(crate) fn may_receive(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => any(&rules.subscribe, topic) && !any(&rules.deny, topic),
        }
    }
}

fn any(filters: &[String], topic: &str) -> bool {
    filters.iter().any(|filter| filter_matches(filter, topic))
}

/// True if every topic that `filter` matches is matched by `allowed`.
fn covers(allowed: &str, filter: &str) -> bool {
    if filter.starts_with('$') && allowed.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = filter.split('/');
    for level in allowed.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Checks a rule of `publish`, `subscribe` or `deny`: a topic filter, with `{user}` and `{client}`
/// anywhere in it.
///
/// # Errors
/// A text that says what to write.
pub fn check_rule(rule: &str) -> Result<(), String> {
    let names = Names { user: Some("x"), client: "x" };
    match fill(rule, names, name_or_nothing) {
        Some(filled) if filled.contains(['{', '}']) => Err(format!(
            "{rule:?}: {USER} and {CLIENT} stand for the client's own names, other braces for nothing"
        )),
        Some(filled) if is_filter(&filled) => Ok(()),
        _ => Err(format!(
            "{rule:?} is not a topic filter: + stands for one whole level, # for the rest, as in \
             \"plant/+/climate\" or \"plant/#\""
        )),
    }
}

/// The names that a client goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// None where it gave none.
    pub(super) user: Option<&'a str>,
    pub(super) client: &'a str,
}

/// Rules as they are written, for everyone whom they hold for.
#[derive(Debug)]
pub(super) struct Rules {
    /// As it is where no names are left open.
    plain: Result<Arc<Access>, RulesConfig>,
    /// Somebody's name did not fit, and the log has it.
    said: AtomicBool,
}

impl Rules {
    /// Everything is allowed.
    pub(super) fn everything() -> Self {
        Self { plain: Ok(Arc::new(Access::All)), said: AtomicBool::new(false) }
    }

    pub(super) fn new(config: &RulesConfig) -> Self {
        let mut all = config.publish.iter().chain(&config.subscribe).chain(&config.deny);
        let plain = if all.any(|rule| rule.contains('{')) {
            Err(config.clone())
        } else {
            Ok(Arc::new(Access::Rules(config.clone())))
        };
        Self { plain, said: AtomicBool::new(false) }
    }

    /// What they allow a client of these names.
    pub(super) fn of(&self, names: Names<'_>) -> Arc<Access> {
        let config = match &self.plain {
            Ok(access) => return Arc::clone(access),
            Err(config) => config,
        };
        let allow = |rules: &[String]| -> Vec<String> {
            rules.iter().filter_map(|rule| self.allowing(rule, names)).collect()
        };
        let (publish, subscribe) = (allow(&config.publish), allow(&config.subscribe));
        let deny = config.deny.iter().filter_map(|rule| fill(rule, names, name_or_any)).collect();
        let gateway = config.gateway.clone();
        Arc::new(Access::Rules(RulesConfig { publish, subscribe, deny, gateway }))
    }

    /// `None`: the names cannot stand in a topic, and the rule allows nothing.
    fn allowing(&self, rule: &str, names: Names<'_>) -> Option<String> {
        let filled = fill(rule, names, name_or_nothing)
            .filter(|filled| rule.starts_with('$') || !filled.starts_with('$'));
        if filled.is_none() && !self.said.swap(true, Ordering::Relaxed) {
            let Names { user, client } = names;
            warn!(
                rule,
                user,
                client,
                "a rule allows this client nothing: a name that is empty or has + # / in it, or $ \
                 in front, does not go into a topic; there may be more such clients"
            );
        }
        filled
    }
}

fn is_level_part(name: &str) -> bool {
    !name.is_empty() && !name.contains(['+', '#', '/', '\0'])
}

/// What stands for a name in a rule that allows: the name, or the rule is void.
fn name_or_nothing(name: Option<&str>) -> Option<&str> {
    name.filter(|name| is_level_part(name))
}

/// What stands for a name in a rule that denies: without it the rule holds for every name.
fn name_or_any(name: Option<&str>) -> Option<&str> {
    name_or_nothing(name).or(Some("+"))
}

/// The rule with its names in place. What is in a name is never read as a rule again.
fn fill(
    rule: &str,
    names: Names<'_>,
    stand_in: fn(Option<&str>) -> Option<&str>,
) -> Option<String> {
    let levels = rule.split('/').map(|level| fill_level(level, names, stand_in));
    levels.collect::<Option<Vec<_>>>().map(|levels| levels.join("/"))
}

fn fill_level(
    level: &str,
    names: Names<'_>,
    stand_in: fn(Option<&str>) -> Option<&str>,
) -> Option<String> {
    let mut filled = String::new();
    let mut rest = level;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        filled.push_str(before);
        let (name, after) = if let Some(after) = from.strip_prefix(USER) {
            (stand_in(names.user)?, after)
        } else if let Some(after) = from.strip_prefix(CLIENT) {
            (stand_in(Some(names.client))?, after)
        } else {
            ("{", &from[1..])
        };
        if name == "+" {
            // A wildcard stands alone in its level.
            return Some(name.to_owned());
        }
        filled.push_str(name);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(publish: &[&str], subscribe: &[&str], deny: &[&str]) -> RulesConfig {
        let own = |filters: &[&str]| filters.iter().map(|f| (*f).to_owned()).collect();
        RulesConfig {
            publish: own(publish),
            subscribe: own(subscribe),
            deny: own(deny),
            gateway: None,
        }
    }

    fn names<'a>(user: Option<&'a str>, client: &'a str) -> Names<'a> {
        Names { user, client }
    }

    #[test]
    fn a_subscription_is_allowed_only_as_a_whole() {
        for (allowed, filter, expected) in [
            ("plant/#", "plant/7/+", true),
            ("plant/#", "plant", true),
            ("plant/#", "#", false),
            ("plant/+", "plant/#", false),
            ("plant/+", "plant/+", true),
            ("+/a", "x/a", true),
            ("#", "$SYS/#", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(covers(allowed, filter), expected, "{allowed} {filter}");
        }
    }

    #[test]
    fn deny_wins_over_publish_and_subscribe() {
        let access = Access::Rules(rules(&["plant/#"], &["plant/#"], &["plant/secret/#"]));
        assert!(access.may_publish("plant/7") && !access.may_publish("plant/secret/x"));
        assert!(access.may_subscribe("plant/#") && !access.may_subscribe("plant/secret/x"));
        assert!(access.may_receive("plant/7") && !access.may_receive("plant/secret/x"));
        assert!(!access.may_receive("elsewhere"), "a subscription that older rules allowed");
    }

    #[test]
    fn nobody_writes_a_table() {
        let rules = Access::Rules(rules(&["$table/#", "#"], &["$table/#"], &[]));
        for access in [Access::All, rules] {
            assert!(!access.may_publish("$table/devices/a") && access.may_publish("tables/a"));
            assert!(access.may_receive("$table/devices/a"), "reading is another matter");
        }
    }

    #[test]
    fn names_fill_a_level_or_a_part_of_it() {
        let written = rules(&["s/{user}/{client}/#", "x-{client}.log"], &["to/{user}"], &[]);
        let access = Rules::new(&written).of(names(Some("pump"), "c-7"));
        let filled = rules(&["s/pump/c-7/#", "x-c-7.log"], &["to/pump"], &[]);
        assert_eq!(*access, Access::Rules(filled));
    }

    #[test]
    fn a_name_never_widens_a_rule() {
        let written = rules(&["s/{client}/#", "u/{user}", "{client}/x", "plain"], &[], &[]);
        for client in ["+", "#", "a/b", "a#", "", "$SYS"] {
            let access = Rules::new(&written).of(names(None, client));
            for topic in ["s/a/x", "s/+/x", "s/a/b/x", "u/a", "a/x", "$SYS/x", "/x", "u/"] {
                assert!(!access.may_publish(topic), "{client:?} {topic}");
            }
            assert!(access.may_publish("plain"), "other rules hold");
        }
        let access = Rules::new(&written).of(names(Some("{client}"), "c"));
        assert!(!access.may_publish("u/c"), "a name is not read as a rule");
    }

    #[test]
    fn a_rule_that_denies_holds_for_a_name_that_does_not_fit() {
        let written = rules(&["#"], &[], &["own/{client}/x", "pre-{user}/y"]);
        let access = Rules::new(&written).of(names(None, "a/b"));
        assert!(!access.may_publish("own/c/x") && !access.may_publish("pre-c/y"));
        assert!(access.may_publish("own/c/z"));
        let access = Rules::new(&written).of(names(Some("u"), "c"));
        assert!(!access.may_publish("own/c/x") && access.may_publish("own/d/x"));
    }

    #[test]
    fn a_rule_is_a_filter_with_the_two_names_and_no_others() {
        for good in ["a/+/{client}/#", "{user}", "a-{user}-{client}/b", "#"] {
            assert_eq!(check_rule(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("a/{device}/b", "{user} and {client}"),
            ("a/{user", "{user} and {client}"),
            ("a/user}", "{user} and {client}"),
            ("a/#/b", "not a topic filter"),
            ("a/+{client}", "not a topic filter"),
            ("", "not a topic filter"),
        ] {
            let problem = check_rule(bad).expect_err(bad);
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn rules_without_names_are_shared() {
        let shared = Rules::new(&rules(&["a"], &[], &[]));
        assert!(Arc::ptr_eq(&shared.of(names(None, "c")), &shared.of(names(None, "d"))));
    }
}
