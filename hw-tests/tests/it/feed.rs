//! Numbered messages into a gateway at QoS 1, whatever happens to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v4::Packet;

use crate::wire::{Publish, QoS, Received, Wire};

/// Messages that are sent together.
const BATCH: u64 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Devices that take turns.
const DEVICES: u64 = 5;

/// What the feeding thread and the test share.
#[derive(Default)]
pub(crate) struct Feed {
    pub(crate) address: Mutex<Option<SocketAddr>>,
    pub(crate) stop: AtomicBool,
}

impl Feed {
    pub(crate) fn set_address(&self, address: Option<SocketAddr>) {
        *self.address.lock().expect("no thread panicked") = address;
    }

    /// Publishes `{"n":0}`, `{"n":1}`, ... to `n/d0`, `n/d1`, ... until it is told to stop; how many
    /// were acknowledged. A number that was not is sent again.
    pub(crate) fn run(&self, until: Instant) -> u64 {
        let mut done = 0;
        while !self.stop.load(Ordering::SeqCst) && Instant::now() < until {
            let address = *self.address.lock().expect("no thread panicked");
            let link = address.map(|address| Wire::connect(address, "feed"));
            if let Some(Ok((mut wire, _))) = link {
                // A link that broke is made again.
                self.feed(&mut wire, &mut done, until).ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
        done
    }

    fn feed(&self, wire: &mut Wire, done: &mut u64, until: Instant) -> io::Result<()> {
        while !self.stop.load(Ordering::SeqCst) && Instant::now() < until {
            let batch: Vec<Packet> = (*done..*done + BATCH).map(message).collect();
            let mut waiting: VecDeque<u16> = (1..=20).collect();
            wire.send(&batch)?;
            while let Some(next) = waiting.front() {
                match wire.receive()? {
                    Some(Received::PubAck(ack)) if ack.pkid == *next => {
                        waiting.pop_front();
                        *done += 1;
                    }
                    Some(other) => return Err(io::Error::other(format!("{other:?}"))),
                    None if Instant::now() > until => return Ok(()),
                    None => {}
                }
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn message(number: u64) -> Packet {
    let topic = format!("n/d{}", number % DEVICES);
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, format!("{{\"n\":{number}}}"));
    publish.pkid = u16::try_from(number % BATCH).expect("small") + 1;
    Packet::Publish(publish)
}
