//! The incremental decoder.

use std::str;

use bytes::Bytes;

use super::{Incoming, MAX_HEADER_LEN, Opcode, WsError, header::Header, mask};

/// Turns a byte stream into messages: fragments joined, masks taken off, text seen to be UTF-8, control frames
/// handed out as they come, also between the fragments of a message.
///
/// A message that lies whole in the caller's buffer is taken from there; only what has not come whole is kept, so
/// a connection at rest holds no buffer (the receiver itself is 16 bytes). What is kept grows with what has
/// arrived, never with what a header promises, and a message over the bound is refused by the header
/// that takes it there. Text that cannot become UTF-8 any more is refused at the byte that shows it.
///
/// ```
/// use wire::ws::{Incoming, Opcode, Receiver, masked_into};
///
/// let mut stream = Vec::new();
/// masked_into(&mut stream, Opcode::Text, b"hello", [1, 2, 3, 4]);
///
/// let mut receiver = Receiver::for_server(1024);
/// let mut input = &stream[..];
/// assert_eq!(receiver.decode(&mut input).unwrap(), Some(Incoming::Text("hello".into())));
/// assert_eq!(receiver.decode(&mut input).unwrap(), None);
/// ```
#[derive(Debug)]
pub struct Receiver {
    pending: Option<Box<Pending>>,
    max_message: u32,
    /// Whether the peer must mask its frames, or must not.
    masked: bool,
    /// The peer has sent its last frame.
    over: bool,
}

/// What has not come whole.
#[derive(Debug, Default)]
struct Pending {
    /// Beginning of a header.
    head: [u8; MAX_HEADER_LEN],
    head_len: u8,
    /// The frame whose payload is coming.
    frame: Option<Frame>,
    /// Payload of a control frame.
    control: Vec<u8>,
    /// The message whose last fragment has not come.
    message: Option<Message>,
}

#[derive(Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// Bytes still to come.
    left: usize,
    /// As it goes on from here.
    mask: [u8; 4],
}

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    is_text: bool,
    /// Bytes from the beginning that have been seen to be UTF-8.
    valid: usize,
}

impl Receiver {
    /// A server's receiver of one connection: refuses frames without a mask, and messages over `max_message` bytes.
    #[must_use]
    pub fn for_server(max_message: usize) -> Self {
        Self::new(max_message, true)
    }

    /// A client's receiver of one connection: refuses masked frames, and messages over `max_message` bytes.
    #[must_use]
    pub fn for_client(max_message: usize) -> Self {
        Self::new(max_message, false)
    }

    fn new(max_message: usize, masked: bool) -> Self {
        let max_message = u32::try_from(max_message).unwrap_or(u32::MAX);
        Self { pending: None, max_message, masked, over: false }
    }

    /// Takes the next message or control frame from the front of `input`, which it moves on. `None`: `input` has been
    /// used up; call again with what arrives next. After a [`Close`](Incoming::Close) everything is ignored.
    ///
    /// # Errors
    /// [`WsError`] ends the stream; what the receiver says after it means nothing.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, WsError> {
        if self.over {
            *input = &[];
            return Ok(None);
        }
        if self.pending.is_none()
            && let Some(whole) = self.take_whole(input)?
        {
            return self.hand_out(whole);
        }
        while !input.is_empty() {
            if let Some(incoming) = self.go_on(input)? {
                return self.hand_out(incoming);
            }
        }
        Ok(None)
    }

    /// Bytes kept for what has not come whole, for the memory account.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| {
            let message = pending.message.as_ref().map_or(0, |message| message.bytes.capacity());
            size_of::<Pending>() + pending.control.capacity() + message
        })
    }

    /// Whether the stream stands between two messages, with nothing kept.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether the peer's Close has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn hand_out(&mut self, incoming: Incoming) -> Result<Option<Incoming>, WsError> {
        if matches!(incoming, Incoming::Close(_)) {
            self.over = true;
            self.pending = None;
        }
        Ok(Some(incoming))
    }

    /// The frequent case: a message of one frame that lies whole in `input`.
    fn take_whole(&self, input: &mut &[u8]) -> Result<Option<Incoming>, WsError> {
        let Some((header, start)) = Header::read(input)? else { return Ok(None) };
        self.admit(&header, None)?;
        let Some((payload, rest)) = input[start..].split_at_checked(header.len as usize) else {
            return Ok(None);
        };
        if !header.fin {
            return Ok(None);
        }
        *input = rest;
        let mut bytes = payload.to_vec();
        if let Some(mask) = header.mask {
            mask::apply(&mut bytes, mask);
        }
        match header.opcode {
            Opcode::Binary => Ok(Some(Incoming::Binary(bytes.into()))),
            Opcode::Text if str::from_utf8(&bytes).is_ok() => Ok(Some(Incoming::Text(bytes.into()))),
            Opcode::Text => Err(WsError::BadUtf8),
            control => Incoming::control(control, &bytes).map(Some),
        }
    }

    /// Goes on with what has not come whole, by one frame at most. `None`: it completed nothing.
    fn go_on(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, WsError> {
        let mut pending = self.pending.take().unwrap_or_default();
        if pending.frame.is_none() {
            let Some(header) = pending.take_header(input)? else {
                self.pending = Some(pending);
                return Ok(None);
            };
            self.admit(&header, pending.message.as_ref())?;
            pending.begin(&header);
        }
        let Some(frame) = pending.take_payload(input)? else {
            self.pending = Some(pending);
            return Ok(None);
        };
        let incoming = pending.complete(&frame)?;
        if pending.message.is_some() {
            self.pending = Some(pending);
        }
        Ok(incoming)
    }

    /// Refuses a frame by its header.
    fn admit(&self, header: &Header, message: Option<&Message>) -> Result<(), WsError> {
        match header.mask {
            None if self.masked => return Err(WsError::Unmasked),
            Some(_) if !self.masked => return Err(WsError::Masked),
            _ => {}
        }
        match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(WsError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WsError::ExpectedContinuation),
            _ if header.opcode.is_control() => return Ok(()),
            _ => {}
        }
        // Neither of the two has its highest bit set.
        let len = header.len + message.map_or(0, |message| message.bytes.len() as u64);
        if len > self.max_message.into() {
            Err(WsError::TooLarge { len, max: self.max_message })
        } else {
            Ok(())
        }
    }
}

impl Pending {
    /// Takes a header, as far as it has come.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, WsError> {
        let had = usize::from(self.head_len);
        let take = input.len().min(MAX_HEADER_LEN - had);
        self.head[had..had + take].copy_from_slice(&input[..take]);
        // Fourteen bytes are a header in any case, so what is not one has used the input up.
        let Some((header, len)) = Header::read(&self.head[..had + take])? else {
            self.head_len = (had + take) as u8;
            *input = &input[take..];
            return Ok(None);
        };
        self.head_len = 0;
        *input = &input[len - had..];
        Ok(Some(header))
    }

    fn begin(&mut self, header: &Header) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            let is_text = header.opcode == Opcode::Text;
            self.message = Some(Message { bytes: Vec::new(), is_text, valid: 0 });
        }
        self.frame = Some(Frame {
            fin: header.fin,
            opcode: header.opcode,
            left: header.len as usize,
            // A mask of zeros changes nothing.
            mask: header.mask.unwrap_or_default(),
        });
    }

    /// Takes what has come of the frame's payload; the frame once that is all.
    fn take_payload(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, WsError> {
        let Some(mut frame) = self.frame.take() else { return Ok(None) };
        let (taken, rest) = input.split_at(frame.left.min(input.len()));
        *input = rest;
        let bytes = match &mut self.message {
            Some(message) if !frame.opcode.is_control() => &mut message.bytes,
            _ => &mut self.control,
        };
        let start = bytes.len();
        bytes.extend_from_slice(taken);
        frame.mask = mask::apply(&mut bytes[start..], frame.mask);
        frame.left -= taken.len();
        if let Some(message) = &mut self.message
            && !frame.opcode.is_control()
        {
            message.check_text()?;
        }
        if frame.left == 0 {
            return Ok(Some(frame));
        }
        self.frame = Some(frame);
        Ok(None)
    }

    /// What a frame that has come whole completes.
    fn complete(&mut self, frame: &Frame) -> Result<Option<Incoming>, WsError> {
        if frame.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return Incoming::control(frame.opcode, &payload).map(Some);
        }
        match self.message.take() {
            Some(message) if frame.fin => message.finish().map(Some),
            message => {
                self.message = message;
                Ok(None)
            }
        }
    }
}

impl Message {
    /// Refuses text as soon as no byte that may follow could make it UTF-8.
    fn check_text(&mut self) -> Result<(), WsError> {
        if !self.is_text {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(WsError::BadUtf8),
        }
        Ok(())
    }

    fn finish(self) -> Result<Incoming, WsError> {
        if self.is_text && self.valid < self.bytes.len() {
            // It ends within a character.
            return Err(WsError::BadUtf8);
        }
        let bytes = Bytes::from(self.bytes);
        Ok(if self.is_text { Incoming::Text(bytes) } else { Incoming::Binary(bytes) })
    }
}
