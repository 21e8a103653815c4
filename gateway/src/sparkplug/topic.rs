//! Topics of the namespace `spBv1.0`: `spBv1.0/{group}/{type}/{edge_node}[/{device}]`, and
//! `spBv1.0/STATE/{host}` of host applications.

/// The first level of every topic.
const NAMESPACE: &str = "spBv1.0";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NodeBirth,
    NodeDeath,
    NodeData,
    NodeCommand,
    DeviceBirth,
    DeviceDeath,
    DeviceData,
    DeviceCommand,
}

impl Kind {
    const ALL: [(&str, Self); 8] = [
        ("NBIRTH", Self::NodeBirth),
        ("NDEATH", Self::NodeDeath),
        ("NDATA", Self::NodeData),
        ("NCMD", Self::NodeCommand),
        ("DBIRTH", Self::DeviceBirth),
        ("DDEATH", Self::DeviceDeath),
        ("DDATA", Self::DeviceData),
        ("DCMD", Self::DeviceCommand),
    ];

    fn of_device(self) -> bool {
        use Kind::{DeviceBirth, DeviceCommand, DeviceData, DeviceDeath};
        matches!(self, DeviceBirth | DeviceDeath | DeviceData | DeviceCommand)
    }
}

/// A topic of an edge node or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Topic<'a> {
    pub(super) kind: Kind,
    /// `kind` as the topic writes it.
    pub(super) message: &'a str,
    pub(super) group: &'a str,
    pub(super) edge_node: &'a str,
    pub(super) device: Option<&'a str>,
}

/// A topic of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Message(Topic<'a>),
    /// A host application says whether it is there.
    State {
        host: &'a str,
    },
}

/// Reads a topic.
///
/// # Errors
/// Why it is none of the namespace, for the `.rejected` stream.
pub(super) fn parse(topic: &str) -> Result<Parsed<'_>, String> {
    const WANTED: &str = "a Sparkplug B topic is spBv1.0/{group}/{type}/{edge_node}[/{device}]";
    let levels: Vec<&str> = topic.splitn(6, '/').collect();
    let (message, group, edge_node, device) = match levels[..] {
        [NAMESPACE, "STATE", host] if !host.is_empty() => return Ok(Parsed::State { host }),
        [NAMESPACE, group, message, edge_node] => (message, group, edge_node, None),
        [NAMESPACE, group, message, edge_node, device] => (message, group, edge_node, Some(device)),
        _ => return Err(WANTED.to_owned()),
    };
    let Some((message, kind)) = Kind::ALL.into_iter().find(|(name, _)| *name == message) else {
        return Err(format!("{message:?} is no type of message; {WANTED}"));
    };
    if [Some(group), Some(edge_node), device].contains(&Some("")) {
        return Err(format!("an empty level; {WANTED}"));
    }
    match (kind.of_device(), device) {
        (true, None) => Err(format!("{message} names its device; {WANTED}")),
        (false, Some(_)) => Err(format!("{message} has no device; {WANTED}")),
        _ => Ok(Parsed::Message(Topic { kind, message, group, edge_node, device })),
    }
}

impl Topic<'_> {
    /// Names the edge node among all.
    pub(super) fn node(&self) -> String {
        format!("{}/{}", self.group, self.edge_node)
    }

    /// Names the edge node or the device among all.
    pub(super) fn source(&self) -> String {
        match self.device {
            None => self.node(),
            Some(device) => format!("{}/{}/{device}", self.group, self.edge_node),
        }
    }

    /// Where commands to the edge node go.
    pub(super) fn command(&self) -> String {
        format!("{NAMESPACE}/{}/NCMD/{}", self.group, self.edge_node)
    }
}

/// True if a stream of `pattern` gets all that its edge nodes say: without births, aliases have no
/// names, and without deaths or data from all devices the sequence has holes.
pub(super) fn takes_all(pattern: &str) -> bool {
    let wild = |level: &str| level == "+" || level.starts_with('{');
    let levels: Vec<&str> = pattern.split('/').collect();
    match levels[..] {
        [NAMESPACE, "#"] => true,
        [NAMESPACE, group, "#"] => group != "STATE",
        [NAMESPACE, group, message, "#"] | [NAMESPACE, group, message, _, "#"] => {
            group != "STATE" && wild(message)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_nodes_devices_and_hosts_are_read() {
        let of = |topic| match parse(topic) {
            Ok(Parsed::Message(topic)) => (topic.kind, topic.source(), topic.command()),
            other => panic!("{topic}: {other:?}"),
        };
        assert_eq!(
            of("spBv1.0/plant/NDATA/press"),
            (Kind::NodeData, "plant/press".to_owned(), "spBv1.0/plant/NCMD/press".to_owned())
        );
        assert_eq!(
            of("spBv1.0/STATE/DBIRTH/press/axis"),
            (
                Kind::DeviceBirth,
                "STATE/press/axis".to_owned(),
                "spBv1.0/STATE/NCMD/press".to_owned()
            )
        );
        assert_eq!(parse("spBv1.0/STATE/scada"), Ok(Parsed::State { host: "scada" }));
    }

    #[test]
    fn what_is_no_topic_of_the_namespace_says_why() {
        for (topic, why) in [
            ("spBv1.0/plant/NDATA", "a Sparkplug B topic is"),
            ("spBv1.0/plant/NDATA/press/axis", "NDATA has no device"),
            ("spBv1.0/plant/DDATA/press", "DDATA names its device"),
            ("spBv1.0/plant/DDATA/press/axis/x", "a Sparkplug B topic is"),
            ("spBv1.0/plant/NADA/press", "\"NADA\" is no type"),
            ("spBv1.0//NDATA/press", "an empty level"),
            ("spAv1.0/plant/NDATA/press", "a Sparkplug B topic is"),
            ("spBv1.0/STATE/", "a Sparkplug B topic is"),
        ] {
            let problem = parse(topic).expect_err(topic);
            assert!(problem.contains(why), "{topic}: {problem}");
        }
    }

    #[test]
    fn a_stream_takes_every_message_of_its_nodes() {
        for pattern in
            ["spBv1.0/#", "spBv1.0/plant/#", "spBv1.0/{group}/{type}/#", "spBv1.0/+/+/press/#"]
        {
            assert!(takes_all(pattern), "{pattern}");
        }
        for pattern in
            ["#", "spBv1.0/+/NDATA/#", "spBv1.0/+/+/+", "spBv1.0/STATE/#", "spBv1.0/+/+/+/axis"]
        {
            assert!(!takes_all(pattern), "{pattern}");
        }
    }
}
