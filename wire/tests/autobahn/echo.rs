//! The echo endpoint that the suite demands, of either role, on the codec and nothing else: sends each message back as it
//! came, a Pong for each Ping, and closes with the code that the peer sent or that the receiver names.

use wire::ws::{Incoming, Opcode, Receiver, close_into, frame_into, masked_into, upgrade};

/// Messages up to here are taken: those of the suite's section 9 have up to 16 MiB.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// One connection after the upgrade: bytes in, bytes out.
pub(crate) struct Echo {
    receiver: Receiver,
    is_client: bool,
    over: bool,
}

impl Echo {
    pub(crate) fn server() -> Self {
        Self { receiver: Receiver::for_server(MAX_MESSAGE), is_client: false, over: false }
    }

    pub(crate) fn client() -> Self {
        Self { receiver: Receiver::for_client(MAX_MESSAGE), is_client: true, over: false }
    }

    /// Takes what has come and appends what is to be sent. Whether the connection goes on.
    pub(crate) fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> bool {
        while !self.over {
            match self.receiver.decode(&mut input) {
                Ok(Some(incoming)) => self.answer(incoming, out),
                Ok(None) => break,
                Err(error) => self.close(error.close_code(), &error.to_string(), out),
            }
        }
        !self.over
    }

    fn answer(&mut self, incoming: Incoming, out: &mut Vec<u8>) {
        match incoming {
            Incoming::Text(text) => self.send(Opcode::Text, &text, out),
            Incoming::Binary(bytes) => self.send(Opcode::Binary, &bytes, out),
            Incoming::Ping(payload) => self.send(Opcode::Pong, &payload, out),
            Incoming::Pong(_) => {}
            Incoming::Close(None) => {
                self.send(Opcode::Close, &[], out);
                self.over = true;
            }
            Incoming::Close(Some((code, words))) => self.close(code, &words, out),
        }
    }

    fn close(&mut self, code: u16, words: &str, out: &mut Vec<u8>) {
        close_into(out, code, words, self.is_client.then_some(MASK));
        self.over = true;
    }

    fn send(&self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        match self.is_client {
            true => masked_into(out, opcode, payload, MASK),
            false => frame_into(out, opcode, payload),
        }
    }
}

/// One for all: a test has no proxy to protect.
const MASK: [u8; 4] = [0x5a, 0x01, 0xff, 0x80];

/// The answer to a request, without the subprotocol that the suite does not ask for.
pub(crate) fn accept(request: &upgrade::Request) -> Vec<u8> {
    let format = wire::ws::Format::Binary;
    let answer = String::from_utf8(upgrade::accept(request, format, None)).expect("it is text");
    answer.replace(&format!("Sec-WebSocket-Protocol: {}\r\n", format.subprotocol()), "").into_bytes()
}
