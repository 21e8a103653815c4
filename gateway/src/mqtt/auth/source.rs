//! Where logins come from, as far as their limits tell apart.

use std::net::IpAddr;

use crate::mqtt::peer::{Origin, Peer};

/// One sender of logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A program of this machine.
    Local,
    V4(u32),
    /// The network of an IPv6 address: who has one address of a /64 has them all.
    V6(u64),
}

impl From<&Peer> for Source {
    fn from(peer: &Peer) -> Self {
        let Origin::Net(address) = peer.origin else { return Self::Local };
        if peer.is_local() {
            return Self::Local;
        }
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn source(address: &str) -> Source {
        let address: SocketAddr = address.parse().expect("an address");
        Source::from(&Peer::from(address))
    }

    #[test]
    fn ports_and_the_low_half_of_ipv6_make_no_difference() {
        assert_eq!(source("10.0.0.1:1"), source("10.0.0.1:2"));
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:1"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::2]:1"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(source("127.0.0.1:1"), source("[::1]:1"));
    }
}
