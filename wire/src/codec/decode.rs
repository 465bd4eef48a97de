//! The incremental decoder.

use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message;

use super::{PREAMBLE, WireError, varint::read_length};
use crate::frame::{ClientFrame, ServerFrame};

/// What a room reads: the preamble, then the device's frames.
pub type ServerDecoder = Decoder<ClientFrame>;

/// What a device reads: the room's frames.
pub type ClientDecoder = Decoder<ServerFrame>;

/// Turns a byte stream into frames.
///
/// Whole frames are decoded right where they lie in the caller's buffer; only the beginning of a frame
/// whose end has not come yet is kept, so a connection at rest holds no buffer (the decoder itself is
/// 16 bytes). What is kept grows with what has arrived, never with what a length prefix promises.
///
/// ```
/// use wire::{codec::{self, PREAMBLE}, frame::{ClientFrame, Ping}, ServerDecoder};
///
/// let mut stream = PREAMBLE.to_vec();
/// stream.extend_from_slice(&codec::encode_client_frame(&Ping {}.into()));
///
/// let mut decoder = ServerDecoder::for_server(1024);
/// let mut input = &stream[..];
/// assert_eq!(decoder.decode(&mut input).unwrap(), Some(ClientFrame::from(Ping {})));
/// assert_eq!(decoder.decode(&mut input).unwrap(), None);
/// ```
#[derive(Debug)]
pub struct Decoder<F> {
    /// Beginning of a frame, its length prefix included.
    #[expect(clippy::box_collection, reason = "16 bytes less in each of a million connections at rest")]
    partial: Option<Box<Vec<u8>>>,
    max_frame: u32,
    /// Bytes of the preamble still to come.
    preamble_left: u8,
    frame: PhantomData<fn() -> F>,
}

impl Decoder<ClientFrame> {
    /// A room's decoder of one connection: expects the preamble, and refuses frames over `max_frame` bytes.
    #[must_use]
    pub fn for_server(max_frame: usize) -> Self {
        Self::new(max_frame, PREAMBLE.len() as u8)
    }

    /// The same when the preamble has been read, between two frames.
    #[must_use]
    pub fn after_preamble(max_frame: usize) -> Self {
        Self::new(max_frame, 0)
    }
}

impl Decoder<ServerFrame> {
    /// A device's decoder of one connection: refuses frames over `max_frame` bytes.
    #[must_use]
    pub fn for_client(max_frame: usize) -> Self {
        Self::new(max_frame, 0)
    }
}

impl<F: Message + Default> Decoder<F> {
    fn new(max_frame: usize, preamble_left: u8) -> Self {
        let max_frame = u32::try_from(max_frame).unwrap_or(u32::MAX);
        Self { partial: None, max_frame, preamble_left, frame: PhantomData }
    }

    /// Takes the next frame from the front of `input`, which it moves on. `None`: `input` has been used up;
    /// call again with what arrives next. A frame that this version does not know has no body.
    ///
    /// # Errors
    /// [`WireError`] ends the stream; what the decoder says after it means nothing.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<F>, WireError> {
        self.take_preamble(input)?;
        if self.partial.is_some() {
            return self.complete(input);
        }
        let Some((start, end)) = self.extent(input)?.filter(|(_, end)| *end <= input.len()) else {
            if !input.is_empty() {
                self.partial = Some(Box::new(input.to_vec()));
                *input = &[];
            }
            return Ok(None);
        };
        let (frame, rest) = input.split_at(end);
        *input = rest;
        parse(&frame[start..]).map(Some)
    }

    /// Bytes kept for a frame whose end has not come yet, for the memory account.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.capacity())
    }

    /// Whether the stream stands between two frames, with nothing kept.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.partial.is_none() && self.preamble_left == 0
    }

    /// Whether the preamble has been read, or none was expected.
    #[must_use]
    pub fn has_preamble(&self) -> bool {
        self.preamble_left == 0
    }

    fn take_preamble(&mut self, input: &mut &[u8]) -> Result<(), WireError> {
        while self.preamble_left > 0 {
            let Some((&byte, rest)) = input.split_first() else { return Ok(()) };
            if byte != PREAMBLE[PREAMBLE.len() - usize::from(self.preamble_left)] {
                let in_version = self.preamble_left == 1;
                return Err(if in_version { WireError::BadVersion(byte) } else { WireError::BadPreamble });
            }
            self.preamble_left -= 1;
            *input = rest;
        }
        Ok(())
    }

    /// Where the first frame in `bytes` begins and ends, once its length prefix is whole.
    fn extent(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
        match read_length(bytes)? {
            None => Ok(None),
            Some((len, _)) if len > self.max_frame => Err(WireError::TooLarge { len, max: self.max_frame }),
            Some((len, start)) => Ok(Some((start, start.saturating_add(len as usize)))),
        }
    }

    /// Goes on with the frame that was begun.
    fn complete(&mut self, input: &mut &[u8]) -> Result<Option<F>, WireError> {
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        loop {
            // Until the prefix is whole the end is not known, and bytes are taken one by one.
            let extent = self.extent(&partial)?;
            let missing = extent.map_or(1, |(_, end)| end - partial.len());
            if let (0, Some((start, _))) = (missing, extent) {
                return parse(&partial[start..]).map(Some);
            }
            if input.is_empty() {
                self.partial = Some(partial);
                return Ok(None);
            }
            let (taken, rest) = input.split_at(missing.min(input.len()));
            partial.extend_from_slice(taken);
            *input = rest;
        }
    }
}

/// One frame of a device that stands by itself, without a length before it.
///
/// # Errors
/// [`WireError::BadProtobuf`].
pub fn decode_client_frame(frame: &[u8]) -> Result<ClientFrame, WireError> {
    parse(frame)
}

/// One frame of a room that stands by itself, without a length before it.
///
/// # Errors
/// [`WireError::BadProtobuf`].
pub fn decode_server_frame(frame: Bytes) -> Result<ServerFrame, WireError> {
    // A payload shares the message's bytes.
    ServerFrame::decode(frame).map_err(WireError::BadProtobuf)
}

fn parse<F: Message + Default>(frame: &[u8]) -> Result<F, WireError> {
    F::decode(frame).map_err(WireError::BadProtobuf)
}
