//! A byte stream with its two buffers. Nothing is held for a connection that is idle.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes taken from the socket at a time, through a buffer on the stack.
const READ_BYTES: usize = 16 << 10;

/// A buffer that has grown beyond this is given back when it is empty.
const KEEP_BYTES: usize = 512;

/// What the socket did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes came in.
    Read(usize),
    /// Bytes went out.
    Wrote(usize),
    /// The peer has closed its side.
    Closed,
}

/// The socket and what waits on either side of it.
pub(crate) struct Wire<S> {
    stream: S,
    /// Read and not yet taken.
    pub(crate) inbuf: Vec<u8>,
    /// To be written, from `written` on.
    pub(crate) out: Vec<u8>,
    written: usize,
    /// The stream took all of it and may still hold some back.
    flushing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, inbuf: Vec::new(), out: Vec::new(), written: 0, flushing: false }
    }

    /// Bytes that wait to be written; those that the stream itself holds back count as one.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len() - self.written + usize::from(self.flushing)
    }

    /// Takes `count` bytes off the front of what was read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.inbuf.drain(..count);
        if self.inbuf.is_empty() && self.inbuf.capacity() > KEEP_BYTES {
            self.inbuf = Vec::new();
        }
    }

    /// Writes what waits and, if `read`, reads what comes; returns after the first success.
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, read: bool) -> io::Result<Event> {
        poll_fn(|cx| self.poll(cx, read)).await
    }

    /// Writes all that waits, says that no more comes, and waits for the peer to close too: what
    /// it still sends is thrown away, but an early close would take our last words back.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.shut().await?;
        self.inbuf.clear();
        while let Event::Read(_) = self.next(true).await? {
            self.inbuf.clear();
        }
        Ok(())
    }

    /// Says that no more comes.
    pub(crate) async fn shut(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }

    /// Writes all that waits.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.waiting() > 0 {
            self.next(false).await?;
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Event>> {
        if self.written < self.out.len()
            && let Poll::Ready(wrote) =
                Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..])
        {
            return Poll::Ready(wrote.and_then(|count| self.wrote(cx, count)));
        }
        if self.written == self.out.len()
            && self.flushing
            && let Poll::Ready(flushed) = self.poll_flush(cx)
        {
            return Poll::Ready(flushed.map(|()| Event::Wrote(0)));
        }
        if read { self.poll_read(cx) } else { Poll::Pending }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, count: usize) -> io::Result<Event> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += count;
        if self.written == self.out.len() {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > KEEP_BYTES {
                self.out = Vec::new();
            }
            self.flushing = true;
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                flushed?;
            }
        }
        Ok(Event::Wrote(count))
    }

    /// A stream that encrypts or frames may hold back what it took until it is told to hand it on.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.flushing = flushed.is_pending();
        flushed
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(problem)) => Poll::Ready(Err(problem)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(Event::Closed)),
            Poll::Ready(Ok(())) => {
                self.inbuf.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(Event::Read(buffer.filled().len())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_idle_wire_holds_no_buffers() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut wire = Wire::new(ours);
        wire.out.extend_from_slice(&[7; 2000]);
        let mut received = vec![0; 2000];
        let (flushed, read) = tokio::join!(wire.flush(), peer.read_exact(&mut received));
        flushed.expect("written");
        read.expect("all of it");
        assert_eq!(received, [7; 2000]);
        for _ in 0..100 {
            peer.write_all(&[1; 50]).await.expect("room");
            assert_eq!(wire.next(true).await.expect("read"), Event::Read(50));
        }
        wire.consume(5000);
        assert_eq!((wire.inbuf.capacity(), wire.out.capacity()), (0, 0));
        drop(peer);
        assert_eq!(wire.next(true).await.expect("end"), Event::Closed);
    }
}
