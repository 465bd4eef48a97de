//! One connection between a device and a room: two pipes that carry bytes in order, break anywhere, and fill up.

use room::exchange::ConnKey;

use super::world::{Event, Life, World};

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Bytes that have arrived.
    pub(crate) carried: u64,
    /// The line breaks when so many have.
    cut: Option<u64>,
    last_at: u64,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) device: usize,
    pub(crate) life: Life,
    pub(crate) key: ConnKey,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// Bytes that have left the room's socket and have not been read.
    in_flight: usize,
    /// Have arrived, and the device has not read them.
    unread: Vec<u8>,
    /// The end has arrived behind them.
    unread_end: bool,
    broken: bool,
    /// If it breaks, only one of the two notices.
    half_open: bool,
    pub(crate) device_gone: bool,
    pub(crate) room_gone: bool,
}

impl World {
    /// Begins a line; it may be doomed to break at a certain byte.
    pub(crate) fn new_line(&mut self, device: usize, life: Life, key: ConnKey) -> usize {
        let number = self.lines.len();
        let mut cuts = self.cuts.get(number).copied();
        if cuts.is_none() && self.chance(self.weather.cut) {
            let place = Some(self.dice.below(1_500));
            let half_open = self.chance(self.weather.half_open);
            cuts = Some(if self.chance(50) { (place, None, half_open) } else { (None, place, half_open) });
        }
        let (up, down, half_open) = cuts.unwrap_or_default();
        self.lines.push(Line {
            device,
            life,
            key,
            up: Pipe { cut: up, ..Pipe::default() },
            down: Pipe { cut: down, ..Pipe::default() },
            in_flight: 0,
            unread: Vec::new(),
            unread_end: false,
            broken: false,
            half_open,
            device_gone: false,
            room_gone: false,
        });
        number
    }

    /// Cuts bytes into segments and sends them; they stay in order.
    fn carry(&mut self, line: usize, bytes: &[u8], up: bool) {
        for segment in bytes.chunks(self.weather.segment) {
            let at = self.arrival(line, up);
            let event =
                if up { Event::Up(line, segment.to_vec()) } else { Event::Down(line, segment.to_vec()) };
            self.at(at, event);
        }
    }

    fn arrival(&mut self, line: usize, up: bool) -> u64 {
        let at = self.now + self.between(self.weather.delay);
        let pipe = if up { &mut self.lines[line].up } else { &mut self.lines[line].down };
        pipe.last_at = pipe.last_at.max(at);
        pipe.last_at - self.now
    }

    pub(crate) fn send_up(&mut self, line: usize, bytes: &[u8]) {
        if !self.lines[line].broken {
            self.carry(line, bytes, true);
        }
    }

    /// The device has closed its end.
    pub(crate) fn end_up(&mut self, line: usize) {
        self.lines[line].device_gone = true;
        if !self.lines[line].broken {
            let at = self.arrival(line, true);
            self.at(at, Event::UpEnd(line));
        }
    }

    /// How many bytes the room's socket still takes.
    pub(crate) fn window(&self, line: usize) -> usize {
        self.weather.window.saturating_sub(self.lines[line].in_flight)
    }

    pub(crate) fn send_down(&mut self, line: usize, bytes: &[u8]) {
        // A broken line looks like one whose other end does not read.
        self.lines[line].in_flight += bytes.len();
        if !self.lines[line].broken {
            self.carry(line, bytes, false);
        }
    }

    pub(crate) fn end_down(&mut self, line: usize) {
        if !self.lines[line].broken {
            let at = self.arrival(line, false);
            self.at(at, Event::DownEnd(line));
        }
    }

    /// Nothing passes any more; the two ends learn of it sooner or later.
    pub(crate) fn break_line(&mut self, line: usize) {
        if std::mem::replace(&mut self.lines[line].broken, true) {
            return;
        }
        let (mut device_late, mut room_late) = (self.dice.below(50), self.dice.below(50));
        if self.lines[line].half_open {
            let late = 200_000;
            if self.chance(50) { device_late = late } else { room_late = late }
        }
        self.at(device_late, Event::DownEnd(line));
        self.at(room_late, Event::UpEnd(line));
    }

    /// Whether only one of the two notices when it breaks.
    pub(crate) fn half_open(&mut self, line: usize, half_open: bool) {
        self.lines[line].half_open = half_open;
    }

    /// What of a segment still arrives.
    fn arrived<'a>(&mut self, line: usize, bytes: &'a [u8], up: bool) -> Option<&'a [u8]> {
        if self.lines[line].broken {
            return None;
        }
        let line = &mut self.lines[line];
        let pipe = if up { &mut line.up } else { &mut line.down };
        let left = pipe.cut.map_or(u64::MAX, |cut| cut - pipe.carried);
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        pipe.carried += count as u64;
        Some(&bytes[..count])
    }

    fn is_cut(&self, line: usize, up: bool) -> bool {
        let pipe = if up { &self.lines[line].up } else { &self.lines[line].down };
        pipe.cut == Some(pipe.carried)
    }

    pub(crate) fn on_up(&mut self, line: usize, bytes: &[u8]) {
        let Some(bytes) = self.arrived(line, bytes, true) else { return };
        if self.is_alive(self.lines[line].life) && !self.lines[line].room_gone {
            self.room_reads(line, bytes);
        }
        if self.is_cut(line, true) {
            self.break_line(line);
        }
    }

    pub(crate) fn on_up_end(&mut self, line: usize) {
        if self.is_alive(self.lines[line].life) && !self.lines[line].room_gone {
            self.room_closes(line);
        }
    }

    pub(crate) fn on_down(&mut self, line: usize, bytes: &[u8]) {
        let Some(bytes) = self.arrived(line, bytes, false) else { return };
        self.lines[line].unread.extend_from_slice(bytes);
        self.read_down(line);
        if self.is_cut(line, false) {
            self.break_line(line);
        }
    }

    pub(crate) fn on_down_end(&mut self, line: usize) {
        self.lines[line].unread_end = true;
        self.read_down(line);
    }

    /// The device reads what has arrived, if it does read; so the room's socket has room again.
    pub(crate) fn read_down(&mut self, line: usize) {
        let device = self.lines[line].device;
        if self.lines[line].device_gone {
            return;
        }
        if self.devices[device].reads_not_before > self.now {
            return;
        }
        let bytes = std::mem::take(&mut self.lines[line].unread);
        self.lines[line].in_flight -= bytes.len();
        if !bytes.is_empty() {
            self.device_reads(device, line, &bytes);
            let life = self.lines[line].life;
            if self.is_alive(life) && !self.lines[line].room_gone && !self.lines[line].broken {
                self.room_writes(line);
            }
        }
        if self.lines[line].unread_end && !self.lines[line].device_gone {
            self.device_lost(device);
        }
    }
}
