//! MQTT over WebSocket (MQTT 5, section 6): the payloads of binary messages are the bytes of the
//! stream, wherever they are cut. All of the library is in this file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Error, Limits, Message, ServerBuilder, WebSocketStream};

use super::Unopened;
use super::upgrade::{Answer, answer};

/// The largest frame that goes out.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// A client that is refused gets this long to take the answer.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// The upgrade; the stream, and whether a page in a browser is at its other end. No message of
/// the client may be longer than `message_bytes_max`.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    message_bytes_max: usize,
) -> Result<(WebSocket<S>, bool), Unopened> {
    let gone = |_| Unopened::Gone;
    let (response, from_page) = match read_request(&mut stream).await.map_err(gone)? {
        Answer::Switch { response, from_page } => (response, from_page),
        Answer::Refuse { response, why } => {
            // Whether the client takes it is its own affair.
            let _ = timeout(FAREWELL_MAX, last_words(&mut stream, &response)).await;
            return Err(Unopened::Refused(why.to_owned()));
        }
    };
    stream.write_all(response.as_bytes()).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let limits = Limits::default().max_payload_len(Some(message_bytes_max));
    let inner = ServerBuilder::new().limits(limits).serve(stream);
    Ok((WebSocket { inner, rest: Bytes::new(), is_answering: false, refusal: None }, from_page))
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Answer> {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&bytes[..count]);
        if let Some(answer) = answer(&request) {
            return Ok(answer);
        }
    }
}

/// What is said to a client that goes: all of it is sent, and what still comes is thrown away, for
/// an early close would take the words back.
async fn last_words<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    response: &str,
) -> io::Result<()> {
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

/// A stream of bytes over binary messages.
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// Of the last message, what was not read yet.
    rest: Bytes,
    /// The answer to a ping is on its way out.
    is_answering: bool,
    /// What the client did wrong; said once the close frame is out.
    refusal: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn take(&mut self, message: Message) {
        if message.is_binary() {
            self.rest = message.into_payload().into();
        } else if message.is_text() {
            let why = "MQTT comes in binary frames, not in text";
            self.end(CloseCode::UNSUPPORTED_DATA, why);
            self.refusal = Some(io::Error::new(io::ErrorKind::InvalidData, why));
        } else if message.is_ping() {
            self.is_answering = true;
        }
    }

    /// Queues a close frame, unless one is out already.
    fn end(&mut self, code: CloseCode, why: &str) {
        match Pin::new(&mut self.inner).start_send(Message::close(Some(code), why)) {
            Ok(()) | Err(_) => {}
        }
    }

    /// Waits for what was queued to go out. Nothing is read before: pongs for a client that sends
    /// pings and reads nothing would pile up.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_answering || self.refusal.is_some() {
            let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
            self.is_answering = false;
            if let Some(refusal) = self.refusal.take() {
                return Poll::Ready(Err(refusal));
            }
            flushed.map_err(as_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            ready!(this.poll_settle(cx))?;
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                // The close handshake is done, or the peer is gone.
                None => return Poll::Ready(Ok(())),
                Some(Ok(message)) => this.take(message),
                Some(Err(Error::Io(problem))) => return Poll::Ready(Err(problem)),
                // The library has queued the close frame that fits.
                Some(Err(problem)) => this.refusal = Some(as_io(problem)),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = Pin::new(&mut self.get_mut().inner);
        ready!(inner.as_mut().poll_ready(cx)).map_err(as_io)?;
        let count = bytes.len().min(FRAME_BYTES_MAX);
        let message = Message::binary(Bytes::copy_from_slice(&bytes[..count]));
        Poll::Ready(inner.start_send(message).map(|()| count).map_err(as_io))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx).map_err(as_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end(CloseCode::NORMAL_CLOSURE, "");
        ready!(Pin::new(&mut this.inner).poll_flush(cx)).map_err(as_io)?;
        Pin::new(this.inner.get_mut()).poll_shutdown(cx)
    }
}

fn as_io(problem: Error) -> io::Error {
    match problem {
        Error::Io(problem) => problem,
        Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        problem => io::Error::new(io::ErrorKind::InvalidData, format!("WebSocket: {problem}")),
    }
}
