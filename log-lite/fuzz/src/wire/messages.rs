//! Messages between node and gateway, and the records of a gateway's journal.

use headwater_shared::envelope::{self, Envelope};
use headwater_shared::node::{self, Announce, Message, Status, TimeRequest, TimeResponse};
use headwater_shared::origin::{self, Origin};

/// What is read can be written, within the size that is promised, and read again as the same.
fn survive<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = node::decode::<M>(bytes) {
        let mut buffer = vec![0; M::SIZE_MAX];
        let again = node::encode(&message, &mut buffer).expect("SIZE_MAX bytes always do");
        assert_eq!(node::decode(again), Ok(message));
    }
}

/// Any bytes give a message or an error; the first says which is expected.
pub fn node_messages(input: &[u8]) {
    let Some((which, body)) = input.split_first() else { return };
    let bytes = [&[node::VERSION], body].concat();
    match which % 4 {
        0 => survive::<Announce>(&bytes),
        1 => survive::<Status>(&bytes),
        2 => survive::<TimeRequest>(&bytes),
        _ => survive::<TimeResponse>(&bytes),
    }
    // Whatever version the bytes begin with.
    survive::<Announce>(body);
    survive::<Status>(body);
    if let Ok(response) = node::decode::<TimeResponse>(&bytes)
        && let Some(boot) = response.boot_unix_ms(u64::from(*which) << 8)
    {
        assert!(boot.start() <= boot.end());
    }
}

/// Any bytes give a record of the journal, with an origin or without, or an error.
pub fn envelope(input: &[u8]) {
    let plain = [&[envelope::VERSION], input].concat();
    let relayed = [&[origin::VERSION], input].concat();
    for bytes in [&plain, &relayed, input] {
        let Ok(envelope) = Envelope::decode(bytes) else { continue };
        if let Some(origin) = Origin::of(bytes) {
            let mut buffer = vec![0; origin.size_max() + envelope.size_max()];
            let again = origin.encode(&envelope, &mut buffer).expect("an upper bound");
            assert_eq!(
                (Origin::of(again), Envelope::decode(again).as_ref()),
                (Some(origin), Ok(&envelope))
            );
        }
        let mut buffer = vec![0; envelope.size_max()];
        let again = envelope.encode(&mut buffer).expect("size_max is an upper bound");
        assert_eq!(Envelope::decode(again), Ok(envelope));
    }
}
