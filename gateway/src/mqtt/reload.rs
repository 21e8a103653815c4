//! A running front door takes over a new configuration.

use std::sync::Arc;

use tracing::info;

use super::context::Context;
use super::packet::reason;
use crate::config::MqttConfig;

/// Changes a running server.
#[derive(Clone)]
pub struct MqttControl {
    context: Arc<Context>,
}

impl MqttControl {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context) }
    }

    /// Users, anonymous rules and bounds are those of `config` from now on. Who may not be there
    /// any more is disconnected; all others go on under their new rules.
    pub fn reload(&self, config: &MqttConfig) {
        let Context { bounds, gate, registry, .. } = &*self.context;
        bounds.reload(config);
        gate.reload(&config.users, config.anonymous.as_ref());
        // Who is not registered yet finds out itself, by the gate's generation.
        let ended = registry.end_where(reason::NOT_AUTHORIZED, |shown| !gate.keeps(shown));
        if ended > 0 {
            info!(clients = ended, "disconnected: their user is gone or has another password");
        }
    }
}
