//! What both versions say, with the version as the parameter.

pub(crate) mod connect;
pub(crate) mod data;
pub(crate) mod deliver;
pub(crate) mod publish;
pub(crate) mod qos2_out;
pub(crate) mod receive;
pub(crate) mod session;
pub(crate) mod subscribe;
pub(crate) mod topics;
pub(crate) mod unsubscribe;
pub(crate) mod will;
