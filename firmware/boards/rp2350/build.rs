//! Puts memory.x where the linker looks for it, and takes the node's settings from the environment.

use std::{env, fs, net::SocketAddrV4, path::PathBuf};

/// Variable, what the firmware knows it as, what it is without.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("HEADWATER_ID", "NODE_ID", "pico-1"),
    ("HEADWATER_WIFI_SSID", "WIFI_SSID", "headwater"),
    ("HEADWATER_WIFI_PASSWORD", "WIFI_PASSWORD", ""),
    ("HEADWATER_GATEWAY", "GATEWAY", "192.168.4.1:1883"),
    ("HEADWATER_USER", "GATEWAY_USER", ""),
    ("HEADWATER_PASSWORD", "GATEWAY_PASSWORD", ""),
    ("HEADWATER_PERIOD_MS", "PERIOD_MS", "1000"),
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), include_bytes!("memory.x")).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=build.rs");
    for (variable, name, default) in SETTINGS {
        println!("cargo:rerun-if-env-changed={variable}");
        let value = env::var(variable).unwrap_or_else(|_| default.to_owned());
        if let Err(remedy) = check(variable, &value) {
            println!("cargo::error={variable}={value}: {remedy}");
        }
        println!("cargo:rustc-env={name}={value}");
    }
    if env::var_os("HEADWATER_WIFI_SSID").is_none() {
        println!(
            "cargo:warning=HEADWATER_WIFI_SSID is not set: this image looks for an open network \
             named headwater; see firmware/boards/rp2350/README.md"
        );
    }
}

fn check(variable: &str, value: &str) -> Result<(), &'static str> {
    let (good, remedy) = match variable {
        "HEADWATER_ID" => (
            headwater_shared::topic::is_node_id(value),
            "a node id is 1 to 32 of A-Z a-z 0-9 - _ .",
        ),
        "HEADWATER_WIFI_SSID" => {
            ((1..=32).contains(&value.len()), "a network's name is 1 to 32 bytes")
        }
        "HEADWATER_WIFI_PASSWORD" => (
            value.is_empty() || (8..=63).contains(&value.len()),
            "a WPA password is 8 to 63 characters; leave it empty for an open network",
        ),
        "HEADWATER_GATEWAY" => {
            (value.parse::<SocketAddrV4>().is_ok(), "give address and port, as 192.168.1.10:1883")
        }
        "HEADWATER_PERIOD_MS" => (
            value.parse::<u32>().is_ok_and(|period_ms| period_ms >= 20),
            "give 20 or more: a measurement takes 9 ms",
        ),
        _ => (value.len() <= 64, "at most 64 bytes"),
    };
    if good { Ok(()) } else { Err(remedy) }
}
