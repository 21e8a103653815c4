//! A client's whole life as bytes, and how to break it.

use super::wire;

/// Xorshift with a multiplication: enough to break packets, and the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }
}

/// What a client of either version says, from CONNECT to DISCONNECT.
pub(crate) fn whole(random: &mut Random, client: &str) -> Vec<u8> {
    let v5 = random.below(2) == 1;
    let mut bytes = wire::connect(client, true);
    if v5 {
        // The level, and between flags and client id no properties.
        bytes[8] = 5;
        bytes.insert(12, 0);
        bytes[1] += 1;
    }
    let filter = format!("broken/{client}/+");
    let mut subscribe = wire::subscribe(&filter, 1);
    let payload = vec![b'x'; random.below(300)];
    let mut messages: Vec<_> = (0..3)
        .map(|qos| wire::publish(&format!("broken/{client}/a"), qos % 2, &payload))
        .map(|message| (wire::id_at(&message, payload.len()), message))
        .collect();
    let (id_at, of_qos_1) = &mut messages[1];
    of_qos_1[*id_at + 1] = 7;
    if v5 {
        insert_properties(&mut subscribe, 4);
        for (end, message) in &mut messages {
            let at = *end + 2;
            insert_properties(message, at);
        }
    }
    messages.into_iter().for_each(|(_, message)| bytes.extend(message));
    bytes.extend(wire::PINGREQ);
    // Last, so that what is broken before it does not leave a subscriber: that is another load.
    bytes.extend(subscribe);
    bytes.extend(wire::DISCONNECT);
    bytes
}

/// Puts an empty list of properties at `at`; the length keeps its number of bytes.
fn insert_properties(packet: &mut Vec<u8>, at: usize) {
    packet.insert(at, 0);
    let two_bytes = packet[1] & 0x80 != 0;
    match (packet[1] & 0x7F, two_bytes) {
        (0x7F, true) => {
            packet[1] = 0x80;
            packet[2] += 1;
        }
        (0x7F, false) => {
            packet[1] = 0x80;
            packet.insert(2, 1);
        }
        _ => packet[1] += 1,
    }
}

/// Breaks it in up to eight places; one in sixteen is noise altogether.
pub(crate) fn broken(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    if random.below(16) == 0 {
        bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        return bytes;
    }
    // Half of them get through CONNECT.
    let spared = if random.below(2) == 0 { 0 } else { 2 + usize::from(bytes[1]) };
    for _ in 0..=random.below(8) {
        break_once(random, &mut bytes, spared);
    }
    bytes
}

fn break_once(random: &mut Random, bytes: &mut Vec<u8>, spared: usize) {
    if bytes.len() <= spared + 1 {
        return;
    }
    let at = spared + random.below(bytes.len() - spared);
    let end = at + random.below((bytes.len() - at).min(40));
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.insert(at, random.next() as u8),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        5 => bytes.truncate(at),
        // The largest length, where one may be.
        _ => drop(bytes.splice(at..at, [0xFF, 0xFF, 0xFF, 0x7F])),
    }
}
