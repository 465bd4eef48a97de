//! Encoders of the frequent frames, straight from their fields: no frame is built first, so no payload's
//! reference count is touched, and the length is computed once. Tests prove them equal to prost's.

use bytes::{BufMut, Bytes};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{decode::decode_server_frame, varint::encoded_prefix_len};
use crate::{
    frame::{Ack, Broadcast, Push, ServerBody, ServerFrame},
    id::{BindingId, Bseq, Position},
};

/// Longest encoded [`Ack`]: prefix, tag and length, then two numbers of 32 bits and three of 64.
pub const MAX_ACK_LEN: usize = 1 + 2 + 6 + 11 + 11 + 11 + 6;

/// `ServerFrame.pong` with an empty message.
static PONG: [u8; 3] = [2, tag(11, LEN), 0];
/// `ClientFrame.ping` with an empty message.
static PING: [u8; 3] = [2, tag(6, LEN), 0];

// Wire types of protobuf.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;

/// Field numbers up to 15 fit with the wire type in one byte; all the frames' do.
const fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// A Pong: one for all, nothing allocated.
#[must_use]
pub const fn pong() -> Bytes {
    Bytes::from_static(&PONG)
}

/// A Ping: one for all, nothing allocated.
#[must_use]
pub const fn ping() -> Bytes {
    Bytes::from_static(&PING)
}

/// A Push with its length prefix.
#[must_use]
pub fn encode_push(push: &Push) -> Bytes {
    let mut out = Vec::with_capacity(push_len(push));
    push_into(push, &mut out);
    out.into()
}

/// Bytes that [`push_into`] appends.
#[must_use]
pub fn push_len(push: &Push) -> usize {
    framed_len(push_body_len(push))
}

/// Appends a Push with its length prefix.
pub fn push_into(push: &Push, out: &mut impl BufMut) {
    put_frame_head(5, push_body_len(push), out);
    put_number(1, push.binding.into(), out);
    put_number(2, push.seq, out);
    put_number(3, push.skip, out);
    put_fixed64(4, push.id, out);
    put_bytes(5, &push.payload, out);
    put_number(6, push.accepted_ms, out);
    put_bytes(7, push.collapse_key.as_bytes(), out);
}

/// A Broadcast with its length prefix: encoded once, shared by all its receivers.
#[must_use]
pub fn encode_broadcast(broadcast: &Broadcast) -> Bytes {
    let body = number_len(broadcast.app.into())
        + number_len(broadcast.bseq)
        + fixed64_len(broadcast.id)
        + bytes_len(&broadcast.payload)
        + number_len(broadcast.accepted_ms)
        + number_len(broadcast.binding.into());
    let mut out = Vec::with_capacity(framed_len(body));
    put_frame_head(6, body, &mut out);
    put_number(1, broadcast.app.into(), &mut out);
    put_number(2, broadcast.bseq, &mut out);
    put_fixed64(3, broadcast.id, &mut out);
    put_bytes(4, &broadcast.payload, &mut out);
    put_number(5, broadcast.accepted_ms, &mut out);
    put_number(6, broadcast.binding.into(), &mut out);
    out.into()
}

/// A Broadcast that [`encode_broadcast`] made, for one of several bindings of its app on a connection. Rare, so it is
/// decoded and encoded again.
#[must_use]
pub fn broadcast_for(frame: &Bytes, binding: BindingId) -> Bytes {
    let message = frame.slice(encoded_prefix_len(frame.len()).min(frame.len())..);
    match decode_server_frame(message) {
        Ok(ServerFrame { body: Some(ServerBody::Broadcast(shared)) }) => {
            encode_broadcast(&Broadcast { binding: binding.0, ..shared })
        }
        _ => frame.clone(),
    }
}

/// An Ack with its length prefix.
#[must_use]
pub fn encode_ack(ack: &Ack) -> Bytes {
    let mut out = Vec::with_capacity(MAX_ACK_LEN);
    let inbox = Position { epoch: ack.epoch.into(), seq: ack.seq.into() };
    ack_into(ack.binding.into(), inbox, ack.bseq.into(), ack.held_ms, &mut out);
    out.into()
}

/// Appends an Ack with its length prefix.
pub fn ack_into(binding: BindingId, inbox: Position, bseq: Bseq, held_ms: u32, out: &mut impl BufMut) {
    let body = number_len(binding.0.into())
        + number_len(inbox.seq.0)
        + number_len(bseq.0)
        + number_len(inbox.epoch.0)
        + number_len(held_ms.into());
    put_frame_head(4, body, out);
    put_number(1, binding.0.into(), out);
    put_number(2, inbox.seq.0, out);
    put_number(3, bseq.0, out);
    put_number(4, inbox.epoch.0, out);
    put_number(5, held_ms.into(), out);
}

fn push_body_len(push: &Push) -> usize {
    number_len(push.binding.into())
        + number_len(push.seq)
        + number_len(push.skip)
        + fixed64_len(push.id)
        + bytes_len(&push.payload)
        + number_len(push.accepted_ms)
        + bytes_len(push.collapse_key.as_bytes())
}

/// The prefix, then tag and length of the one message that a frame holds.
fn put_frame_head(field: u8, body: usize, out: &mut impl BufMut) {
    encode_varint((1 + encoded_len_varint(body as u64) + body) as u64, out);
    out.put_u8(tag(field, LEN));
    encode_varint(body as u64, out);
}

fn framed_len(body: usize) -> usize {
    let frame = 1 + encoded_len_varint(body as u64) + body;
    encoded_len_varint(frame as u64) + frame
}

// A field with its type's default value is left out, as proto3 has it.

fn put_number(field: u8, number: u64, out: &mut impl BufMut) {
    if number != 0 {
        out.put_u8(tag(field, VARINT));
        encode_varint(number, out);
    }
}

fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

fn put_fixed64(field: u8, number: u64, out: &mut impl BufMut) {
    if number != 0 {
        out.put_u8(tag(field, FIXED64));
        out.put_u64_le(number);
    }
}

fn fixed64_len(number: u64) -> usize {
    if number == 0 { 0 } else { 9 }
}

fn put_bytes(field: u8, bytes: &[u8], out: &mut impl BufMut) {
    if !bytes.is_empty() {
        out.put_u8(tag(field, LEN));
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + encoded_len_varint(bytes.len() as u64) + bytes.len() }
}
