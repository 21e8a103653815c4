//! The settings that this image was built with; build.rs has checked them.

use core::{net::SocketAddrV4, num::NonZeroU32};
use embassy_net::IpEndpoint;

const CHECKED: &str = "build.rs has checked the settings";

pub const NODE_ID: &str = env!("NODE_ID");
pub const WIFI_SSID: &str = env!("WIFI_SSID");
/// Empty for an open network.
pub const WIFI_PASSWORD: &str = env!("WIFI_PASSWORD");

pub fn period_ms() -> NonZeroU32 {
    env!("PERIOD_MS").parse().expect(CHECKED)
}

pub fn gateway() -> IpEndpoint {
    let address: SocketAddrV4 = env!("GATEWAY").parse().expect(CHECKED);
    IpEndpoint::from(address)
}

pub fn login() -> Option<(&'static str, &'static str)> {
    let (user, password) = (env!("GATEWAY_USER"), env!("GATEWAY_PASSWORD"));
    (!user.is_empty()).then_some((user, password))
}
