//! The ring on asynchronous flash, and futures that are dropped halfway.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash as _, ReadNorFlash as _, check_erase, check_write,
};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};
use log_lite::{AsyncRing, AsyncRingSlot, Ring, RingError};

use crate::Rng;
use crate::nor::{Nor, PAGE, PowerCut, Step};
use crate::ring::{block, body};

const PAGES: usize = 3;
const RANGE: core::ops::Range<u32> = 0..(PAGES * PAGE) as u32;

/// Flash that makes its caller wait before each word, each erase and each read, and after it.
struct Slow(Nor<4>);

/// Not ready the first time.
fn wait() -> impl Future<Output = ()> {
    let mut waited = false;
    poll_fn(
        move |_| {
            if core::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        },
    )
}

impl ErrorType for Slow {
    type Error = PowerCut;
}

impl ReadNorFlash for Slow {
    const READ_SIZE: usize = 4;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        // What a read that is given up has put there is anything.
        bytes.fill(0xA5);
        wait().await;
        let done = self.0.read(offset, bytes);
        wait().await;
        done
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Slow {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        check_erase(&self.0, from, to).expect("an erase is aligned and inside");
        wait().await;
        self.0.erase(from, to)?;
        wait().await;
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        check_write(&self.0, offset, bytes.len()).expect("a write is aligned and inside");
        self.0.writes += 1;
        for (n, word) in bytes.chunks(4).enumerate() {
            wait().await;
            self.0.step(&Step::Program { at: offset as usize + 4 * n, word: word.to_vec() })?;
        }
        wait().await;
        Ok(())
    }
}

/// Polls a future until it is done or has been polled so often. `None`: it was dropped.
fn poll<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

fn finish<F: Future>(future: F) -> F::Output {
    poll(future, 1_000_000).expect("a bounded number of waits")
}

fn mount(flash: Nor<4>) -> AsyncRing<Slow> {
    finish(AsyncRing::mount(Slow(flash), RANGE)).unwrap()
}

fn check(ring: &mut AsyncRing<Slow>, bodies: &[Vec<u8>]) {
    let (mut from, mut buf) = (ring.start(), [0; 200]);
    while let Some(record) = finish(ring.read(from, &mut buf)).unwrap() {
        assert_eq!(record.offset, from);
        assert_eq!(buf[..record.len], block(&bodies[from as usize]));
        from += 1;
    }
    assert_eq!(from, ring.end());
    assert_eq!(ring.end(), bodies.len() as u64);
}

#[test]
fn both_rings_leave_the_same_bytes() {
    let mut waiting = mount(Nor::new(PAGES));
    let mut blocking = Ring::mount(Nor::<4>::new(PAGES), RANGE).unwrap();
    let mut rng = Rng::new(3);
    let mut bodies = Vec::new();
    for n in 0..100 {
        bodies.push(body(n, &mut rng));
        let bytes = block(&bodies[n as usize]);
        assert_eq!(finish(waiting.append_block(1, 2, &bytes)).unwrap(), n);
        assert_eq!(blocking.append_block(1, 2, &bytes).unwrap(), n);
        if n % 7 == 0 {
            finish(waiting.trim(n)).unwrap();
            blocking.trim(n).unwrap();
        }
    }
    assert_eq!((waiting.start(), waiting.dropped()), (blocking.start(), blocking.dropped()));
    check(&mut waiting, &bodies);
    assert_eq!(waiting.release().0.bytes, blocking.release().bytes);
}

/// Does a run of appends, reads and trims in which the `n`th future is dropped at its `wait`th
/// wait. Returns whether it was.
fn drop_one(n: usize, wait: usize, mounts: bool) -> bool {
    let mut ring = mount(Nor::new(PAGES));
    let (mut bodies, mut rng): (Vec<Vec<u8>>, _) = (Vec::new(), Rng::new(n as u64));
    let mut was_dropped = false;
    let times = |at: usize| if at == n { wait } else { usize::MAX };
    for at in 0..64 {
        let end = ring.end();
        match at % 8 {
            3 => {
                let start = ring.start();
                was_dropped |= poll(ring.read(start, &mut [0; 200]), times(at)).is_none();
            }
            7 => {
                let before = ring.start() + 6;
                was_dropped |= poll(ring.trim(before), times(at)).is_none();
            }
            _ => {
                let next = body(at as u64, &mut rng);
                match poll(ring.append(0, 0, &next), times(at)) {
                    Some(stored) => assert_eq!(stored.unwrap(), end),
                    None => was_dropped = true,
                }
                bodies.push(next);
            }
        }
        if mounts && at == n {
            ring = mount(ring.release().0);
        } else {
            // What is asked next finds out what became of it.
            finish(ring.trim(0)).unwrap();
        }
        // It was stored in full or not at all.
        bodies.truncate(ring.end() as usize);
        assert!(ring.end() == bodies.len() as u64 && (ring.end() > end || at == n || at % 4 == 3));
    }
    check(&mut ring, &bodies);
    let mut ring = mount(ring.release().0);
    check(&mut ring, &bodies);
    was_dropped
}

#[test]
fn a_future_dropped_at_any_wait_leaves_a_ring_that_goes_on_and_mounts() {
    for mounts in [false, true] {
        for n in 0..64 {
            let mut wait = 1;
            while drop_one(n, wait, mounts) {
                wait += 1;
            }
        }
    }
}

#[test]
fn a_mount_dropped_at_any_wait_can_be_made_again() {
    let mut ring = mount(Nor::new(PAGES));
    let bodies: Vec<_> = (0..40).map(|n| vec![n; 20]).collect();
    for body in &bodies {
        finish(ring.append(0, 0, body)).unwrap();
    }
    let (start, flash) = (ring.start(), ring.release());
    let mut slot = AsyncRingSlot::new(flash, RANGE);
    let mut wait = 1;
    while poll(slot.mount(), wait).is_none() {
        wait += 1;
    }
    let ring = finish(slot.mount()).unwrap();
    assert_eq!((ring.start(), ring.end()), (start, 40));
    check(ring, &bodies);
}

#[test]
fn what_asynchronous_flash_fails_at_is_said() {
    let mut flash = Nor::new(PAGES);
    flash.left = Some(20);
    let mut ring = mount(flash);
    let failed = (0..10).find_map(|_| finish(ring.append(0, 0, &[1; 20])).err());
    assert!(matches!(failed, Some(RingError::Flash(PowerCut))));
}
