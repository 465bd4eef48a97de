//! What commands print on standard output.
//!
//! `println!` panics when the reader has gone, as `head` does once it has its lines. For a command that is the end and no error.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write as _},
    process,
};

/// Prints text; see [`write`].
macro_rules! out {
    ($($text:tt)*) => { $crate::output::write(format_args!($($text)*)) };
}

/// Prints text as a line; see [`write`].
macro_rules! outln {
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints text. Ends the process with 0 when nobody reads any more, and with 1 and the reason when it cannot be written.
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    eprintln!("longwire: cannot print: {error}");
    process::exit(1);
}
