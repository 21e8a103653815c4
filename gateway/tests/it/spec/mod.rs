//! Every statement of the MQTT specifications that binds a server, over a real socket.
//!
//! A test is named after its statement: `v3::publish::mqtt_3_3_1_5_...` is [MQTT-3.3.1-5] of MQTT
//! 3.1.1, `v5::...` that of MQTT 5; the two documents number differently. What both say is one body
//! in [`both`], run once for each. `docs/mqtt-conformance.md` has the table of all statements, also
//! of those that bind clients alone; [`complete`] holds it against these files.

/// Tests named after statements, each a body that takes the version.
macro_rules! statements {
    ($version:ident: $($name:ident => $body:path;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $body($crate::spec::packet::Version::$version).await;
            }
        )*
    };
}

mod answer;
mod both;
mod client;
mod complete;
mod interop;
mod packet;
mod v3;
mod v5;
