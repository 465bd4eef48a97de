//! Worker processes: this program started again, because one process may open only so many files.

pub mod child;
pub mod frame;

pub use child::run;
