//! The node: readings in, steps for its board out.

use crate::{
    blocks::{Blocks, SealPolicy, Sealed},
    epoch::{EPOCH_PAGES, next_epoch},
    outbox::{Outbox, OutboxError},
    session::{Event, Session, SessionPolicy, Step, Ticket, View},
};
use core::{num::NonZeroU32, ops::Range};
use embedded_storage::nor_flash::NorFlash;
use headwater_shared::{
    block::{BlockError, CHANNELS_MAX, Kind},
    node::{self, Announce, Channel, Message, MessageError, Status, TimeRequest},
    topic::Subject,
};
use heapless::Vec;

/// The most bytes of a block, and so of a payload that a node publishes or keeps in its flash.
pub const BLOCK_BYTES_MAX: usize = 512;

/// A buffer for [`Node::step`] holds the largest of its payloads.
pub const PAYLOAD_BYTES_MAX: usize =
    if Announce::SIZE_MAX > BLOCK_BYTES_MAX { Announce::SIZE_MAX } else { BLOCK_BYTES_MAX };

/// One quantity that the node samples.
#[derive(Clone, Copy, Debug)]
pub struct ChannelConfig<'a> {
    /// The column at the gateway.
    pub name: &'a str,
    /// The unit of the values.
    pub unit: &'a str,
    /// Decimal places of the values.
    pub scale: u8,
}

/// What makes one node differ from another.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig<'a> {
    /// The node id, as in its topics.
    pub id: &'a str,
    /// Name and version of what it runs.
    pub firmware: &'a str,
    /// From reading to reading.
    pub period_ms: NonZeroU32,
    /// In the order of a reading's values.
    pub channels: &'a [ChannelConfig<'a>],
    /// When blocks are sealed.
    pub seal: SealPolicy,
    /// How patient the session is.
    pub session: SessionPolicy,
}

/// Why a node cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError<E> {
    /// The flash failed.
    Flash(E),
    /// The outbox cannot be opened.
    Outbox(OutboxError),
    /// The configuration breaks a rule of the wire.
    Config(MessageError),
    /// The channels do not make a block.
    Channels(BlockError),
}

/// Counts of what went wrong since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Readings that the sensor did not give.
    pub readings_failed: u32,
    /// Blocks that the flash did not take.
    pub blocks_failed: u32,
    /// Reads of the outbox that failed.
    pub reads_failed: u32,
    /// Acknowledgements that the flash did not take.
    pub trims_failed: u32,
}

/// What the board does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'b> {
    /// Connect to the gateway, then say [`Event::Connected`] or [`Event::Disconnected`]. The will is
    /// [`Node::will`], and the node listens to its [`Subject::TimeReply`].
    Connect,
    /// Drop the connection; no event follows.
    Disconnect,
    /// Publish.
    Publish(Publish<'b>),
    /// Do nothing before this time since boot, unless something happens or a block is sealed.
    Wait {
        /// In ms since boot.
        until_ms: u64,
    },
}

/// A message to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'b> {
    /// Which topic of the node.
    pub subject: Subject,
    /// With QoS 1, and [`Event::Acknowledged`] with this when it is; without: QoS 0.
    pub ticket: Option<Ticket>,
    /// The gateway keeps it for those who come later.
    pub retain: bool,
    /// The bytes.
    pub payload: &'b [u8],
}

/// A sensor node on flash `F`.
pub struct Node<F: NorFlash> {
    announce: Announce,
    boot_epoch: u32,
    blocks: Blocks<BLOCK_BYTES_MAX>,
    outbox: Outbox<F>,
    session: Session,
    counters: Counters,
}

impl<F: NorFlash> Node<F> {
    /// Starts a node on the flash in `range`: counts the boot epoch in its last two pages and takes
    /// up the outbox in the others. `seed` is random, if the board can.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn boot(
        mut flash: F,
        range: Range<u32>,
        config: &NodeConfig<'_>,
        seed: u32,
    ) -> Result<Self, BootError<F::Error>> {
        let epoch_at = range.end - EPOCH_PAGES * F::ERASE_SIZE as u32;
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        // Blocks in flash know an epoch too: it is the floor, should the count be damaged.
        let floor = Outbox::open(&mut flash, range.start..epoch_at)
            .and_then(|mut outbox| outbox.newest_epoch())
            .map_err(BootError::Outbox)?;
        let boot_epoch =
            next_epoch(&mut flash, epoch_at..range.end, floor).map_err(BootError::Flash)?;
        let announce = announce(config, boot_epoch, &mut payload).map_err(BootError::Config)?;
        let channels = announce.channels.iter();
        let kinds: Vec<Kind, CHANNELS_MAX> =
            channels.map(|channel| Kind::Decimal { scale: channel.scale }).collect();
        let blocks = Blocks::new(config.seal, boot_epoch, config.period_ms.get(), &kinds)
            .map_err(BootError::Channels)?;
        let outbox = Outbox::open(flash, range.start..epoch_at).map_err(BootError::Outbox)?;
        let session = Session::new(config.session, seed ^ boot_epoch.rotate_left(16));
        let counters = Counters::default();
        Ok(Self { announce, boot_epoch, blocks, outbox, session, counters })
    }

    /// Takes in a reading of `time_ms` since boot; true if that sealed a block.
    ///
    /// # Errors
    /// If the values are not one for each channel.
    pub fn sample(&mut self, time_ms: u64, values: &[i64]) -> Result<bool, BlockError> {
        let Self { blocks, outbox, counters, boot_epoch, .. } = self;
        let before = blocks.sequence();
        let mut sink = |sealed: Sealed<'_>| keep(outbox, counters, *boot_epoch, &sealed);
        blocks.push(time_ms, self.session.boot_unix_ms(), values, &mut sink)?;
        Ok(blocks.sequence() != before)
    }

    /// The sensor gave no reading when it was time for one; true if a block has become so old that
    /// it was sealed.
    pub fn reading_failed(&mut self, now_ms: u64) -> bool {
        let Self { blocks, outbox, counters, boot_epoch, .. } = self;
        counters.readings_failed = counters.readings_failed.saturating_add(1);
        let before = blocks.sequence();
        blocks.seal_if_old(now_ms, &mut |s| keep(outbox, counters, *boot_epoch, &s));
        blocks.sequence() != before
    }

    /// Takes in what happened to the link.
    pub fn event(&mut self, now_ms: u64, event: Event) {
        let effect = self.session.event(now_ms, event);
        if effect.gap_reported {
            self.outbox.gap_reported();
        }
        if let Some(before) = effect.trim {
            // Untrimmed blocks are sent again, and the gateway drops them: no harm but work.
            if self.outbox.trim(before).is_err() {
                self.counters.trims_failed = self.counters.trims_failed.saturating_add(1);
            }
        }
    }

    /// What the board is to do now. `can_send`: the link would take another QoS 1 message.
    pub fn step<'b>(
        &mut self,
        now_ms: u64,
        can_send: bool,
        payload: &'b mut [u8; PAYLOAD_BYTES_MAX],
    ) -> Action<'b> {
        loop {
            let outbox = self.outbox.range();
            let end = outbox.end;
            let view = View { outbox, has_gap: self.outbox.has_gap(), can_send };
            return match self.session.step(now_ms, &view) {
                Step::Connect => Action::Connect,
                Step::Disconnect => Action::Disconnect,
                Step::Wait { until_ms } => Action::Wait { until_ms },
                Step::Announce(ticket) => publish(&self.announce, Some(ticket), true, payload),
                Step::Online(ticket) => publish(&self.online(), Some(ticket), true, payload),
                Step::AskTime { nonce } => {
                    let boot_epoch = self.boot_epoch;
                    let request = TimeRequest { boot_epoch, uptime_ms: now_ms, nonce };
                    publish(&request, None, false, payload)
                }
                Step::Block { ticket, from } => match self.outbox.read(from, payload) {
                    Ok(Some((offset, size))) => {
                        self.session.block_sent(now_ms, ticket, offset);
                        Action::Publish(Publish {
                            subject: Subject::Blocks,
                            ticket: Some(ticket),
                            retain: false,
                            payload: &payload[..size],
                        })
                    }
                    Ok(None) => {
                        self.session.no_block_before(end);
                        continue;
                    }
                    Err(_) => {
                        self.counters.reads_failed = self.counters.reads_failed.saturating_add(1);
                        self.session.no_block_before(from + 1);
                        continue;
                    }
                },
            };
        }
    }

    /// The will of this node's connection: its [`Subject::Status`], retained, QoS 1.
    pub fn will<'b>(&self, payload: &'b mut [u8; PAYLOAD_BYTES_MAX]) -> &'b [u8] {
        let offline = Status::Offline { boot_epoch: self.boot_epoch };
        node::encode(&offline, payload).expect(FITS)
    }

    /// Which start of the node this is.
    pub fn boot_epoch(&self) -> u32 {
        self.boot_epoch
    }

    /// The node id.
    pub fn id(&self) -> &str {
        &self.announce.node
    }

    /// What went wrong since boot.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Blocks in flash that are not acknowledged.
    pub fn blocks_waiting(&self) -> u64 {
        let outbox = self.outbox.range();
        outbox.end - outbox.start
    }

    /// Blocks that the full flash overwrote since boot.
    pub fn blocks_dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Readings that a reset now would take.
    pub fn unsealed(&self) -> u16 {
        self.blocks.unsealed()
    }

    fn online(&mut self) -> Status {
        Status::Online {
            boot_epoch: self.boot_epoch,
            blocks_waiting: u32::try_from(self.blocks_waiting()).unwrap_or(u32::MAX),
            blocks_dropped: u32::try_from(self.blocks_dropped()).unwrap_or(u32::MAX),
            gap: self.outbox.report_gap(),
        }
    }
}

const FITS: &str = "messages are checked at boot, and a payload holds the largest";

fn publish<'b, M: Message>(
    message: &M,
    ticket: Option<Ticket>,
    retain: bool,
    payload: &'b mut [u8; PAYLOAD_BYTES_MAX],
) -> Action<'b> {
    let payload = node::encode(message, payload).expect(FITS);
    Action::Publish(Publish { subject: M::SUBJECT, ticket, retain, payload })
}

fn keep<F: NorFlash>(
    outbox: &mut Outbox<F>,
    counters: &mut Counters,
    boot_epoch: u32,
    sealed: &Sealed<'_>,
) {
    if outbox.push(sealed, boot_epoch).is_err() {
        counters.blocks_failed = counters.blocks_failed.saturating_add(1);
    }
}

fn announce(
    config: &NodeConfig<'_>,
    boot_epoch: u32,
    payload: &mut [u8; PAYLOAD_BYTES_MAX],
) -> Result<Announce, MessageError> {
    let too_long = |_| MessageError::Invalid("a text is longer than 32 bytes");
    let mut channels = Vec::new();
    for channel in config.channels {
        let channel = Channel {
            name: channel.name.try_into().map_err(too_long)?,
            unit: channel.unit.try_into().map_err(too_long)?,
            scale: channel.scale,
            period_ms: config.period_ms.get(),
        };
        channels.push(channel).map_err(|_| MessageError::Invalid("a node has 1 to 8 channels"))?;
    }
    let announce = Announce {
        node: config.id.try_into().map_err(too_long)?,
        boot_epoch,
        firmware: config.firmware.try_into().map_err(too_long)?,
        channels,
    };
    node::encode(&announce, payload)?;
    Ok(announce)
}
