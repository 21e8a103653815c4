//! What a connection has from the gate: who it is, what it may do, and its share of the limits.

use std::sync::Arc;

use super::book::Role;
use super::quota::{Seat, Toll};
use super::rules::{Access, Names};
use crate::mqtt::packet::{Fault, reason};

/// What a client has shown of itself, and was found true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// It is a program of this machine.
    pub(super) local: bool,
    pub(super) proof: Proof,
}

/// What its name rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It gave no name, or nobody asked.
    Nothing,
    /// Its password fits this hash.
    Password { user: Arc<str>, hash: Arc<str> },
    /// A CA of ours has signed this name.
    Certificate(Arc<str>),
}

impl Shown {
    fn user(&self) -> Option<&str> {
        match &self.proof {
            Proof::Nothing => None,
            Proof::Password { user, .. } => Some(user),
            Proof::Certificate(name) => Some(name),
        }
    }
}

/// A client that was let in. Its seat is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    shown: Arc<Shown>,
    client: Arc<str>,
    role: Arc<Role>,
    access: Arc<Access>,
    /// What its packets pay.
    pub(crate) toll: Toll,
    seat: Option<Seat>,
    generation: u64,
}

impl Pass {
    pub(super) fn new(
        shown: Arc<Shown>,
        client: Arc<str>,
        role: &Arc<Role>,
        generation: u64,
    ) -> Self {
        let access = role.rules.of(Names { user: shown.user(), client: &client });
        let (role, toll) = (Arc::clone(role), role.quota.toll());
        Self { shown, client, role, access, toll, seat: None, generation }
    }

    /// What the client has shown.
    pub(crate) fn shown(&self) -> &Arc<Shown> {
        &self.shown
    }

    /// What the client may do.
    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Which reading of the configuration it is by.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Counts the connection to those of its user.
    ///
    /// # Errors
    /// [`Fault`] where the user has as many as it may.
    pub(crate) fn sit(&mut self) -> Result<(), Fault> {
        let seat = self.role.quota.seat().map_err(|max| {
            let name = &self.role.name;
            Fault::new(reason::QUOTA, format!("{name} has max_connections = {max} of them already"))
        })?;
        self.seat = Some(seat);
        Ok(())
    }

    /// Goes on under a later reading of the configuration.
    pub(super) fn renew(&mut self, role: &Arc<Role>, generation: u64) {
        let seat = self.seat.take().map(|_| role.quota.keep_seat());
        *self = Self::new(Arc::clone(&self.shown), Arc::clone(&self.client), role, generation);
        self.seat = seat;
    }
}
