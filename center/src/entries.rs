//! Counts the entries of a gRPC request while it arrives. A list entry of two bytes becomes a hundred when it is decoded, so
//! a bound on the bytes that came is none on what they turn into.

/// Where in a message the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of gRPC's own head are still to come.
    Head(u8),
    Tag(u64, u32),
    Varint,
    Length(u64, u32),
    Skip(u64),
    /// It is no message; whoever decodes it says so.
    Lost,
}

/// The fields of a message, at its top.
#[derive(Debug)]
pub(crate) struct Entries {
    at: At,
    /// Bytes of the present message that are still to come; its length is the last four bytes of the head.
    left: u64,
    seen: usize,
    /// Messages are counted one by one.
    each: bool,
}

impl Entries {
    pub(crate) fn new() -> Entries {
        Entries { at: At::Head(5), left: 0, seen: 0, each: false }
    }

    /// Of a stream: each message by itself.
    pub(crate) fn of_each() -> Entries {
        Entries { each: true, ..Entries::new() }
    }

    /// Whether all messages that have begun are complete.
    pub(crate) fn is_between(&self) -> bool {
        self.at == At::Head(5)
    }

    /// Takes what has come; how many entries there have been, or of a stream: the most that a message had that went on or began
    /// here.
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut most = 0;
        while let Some((&byte, rest)) = bytes.split_first() {
            if let At::Head(to_come) = self.at {
                // The first is a flag.
                self.left = if to_come == 5 { 0 } else { self.left << 8 | u64::from(byte) };
                self.at = match (to_come, self.left) {
                    (1, 0) => At::Head(5),
                    (1, _) => At::Tag(0, 0),
                    _ => At::Head(to_come - 1),
                };
                bytes = rest;
                continue;
            }
            let taken = match self.at {
                At::Skip(length) => (bytes.len() as u64).min(length).min(self.left),
                At::Lost => (bytes.len() as u64).min(self.left),
                _ => 1,
            };
            self.step(byte, taken);
            self.left -= taken;
            // It cannot be more than there are bytes.
            bytes = &bytes[taken as usize..];
            if self.left == 0 {
                self.at = At::Head(5);
                most = most.max(self.seen);
                if self.each {
                    self.seen = 0;
                }
            }
        }
        most.max(self.seen)
    }

    fn step(&mut self, byte: u8, taken: u64) {
        let last = byte < 0x80;
        let bits = u64::from(byte & 0x7f);
        self.at = match self.at {
            At::Tag(_, shift) | At::Length(_, shift) if shift > 63 => At::Lost,
            At::Tag(tag, shift) if !last => At::Tag(tag | bits << shift, shift + 7),
            At::Tag(tag, shift) => {
                self.seen += 1;
                match (tag | bits << shift) & 7 {
                    0 => At::Varint,
                    1 => At::Skip(8),
                    2 => At::Length(0, 0),
                    5 => At::Skip(4),
                    _ => At::Lost,
                }
            }
            At::Varint if last => At::Tag(0, 0),
            At::Length(length, shift) if !last => At::Length(length | bits << shift, shift + 7),
            At::Length(length, shift) => match length | bits << shift {
                0 => At::Tag(0, 0),
                length => At::Skip(length),
            },
            At::Skip(length) if length == taken => At::Tag(0, 0),
            At::Skip(length) => At::Skip(length - taken),
            same => same,
        };
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        bytes.extend(message.encode_to_vec());
        bytes
    }

    #[test]
    fn entries_are_counted_however_the_bytes_come() {
        let push = |payload: usize| v1::PushRequest {
            uid: "alice".into(),
            payload: vec![0xff; payload].into(),
            ttl_s: Some(3),
            ..Default::default()
        };
        let batch = v1::PushBatchRequest { pushes: vec![push(0), push(1), push(1_000), push(70_000)] };
        let batch = framed(&batch);
        for size in [1, 2, 7, 1_000, batch.len()] {
            let mut entries = Entries::new();
            let seen = batch.chunks(size).map(|part| entries.count(part)).last();
            assert_eq!(seen, Some(4), "in parts of {size}");
        }
        let mut entries = Entries::new();
        assert_eq!(
            entries.count(&framed(&v1::PushBatchRequest { pushes: vec![Default::default(); 500] })),
            500
        );
        assert_eq!(entries.count(&framed(&push(5))), 503, "uid, payload and ttl of the next message");
        assert_eq!(entries.count(&framed(&v1::PushRequest::default())), 503);
        assert_eq!(entries.count(&batch), 507);
    }

    #[test]
    fn what_is_no_message_is_left_to_the_decoder() {
        for bytes in
            [&[0xff; 50][..], &[7], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            let mut framed = vec![0, 0, 0, 0, bytes.len() as u8];
            framed.extend(bytes);
            assert!(Entries::new().count(&framed) <= 1);
        }
    }
}
