//! What SQLite's result codes mean.

use crate::archive::ArchiveError;

/// Translates an error. The low byte of an extended result code is the primary one (sqlite.org/rescode.html).
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(super) fn classify(error: sqlx::Error) -> ArchiveError {
    let text = error.to_string();
    let code = match &error {
        sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<i32>().ok()).map(|c| c & 0xff),
        _ => None,
    };
    match code {
        Some(5 | 6) => ArchiveError::Locked,
        Some(13) => ArchiveError::DiskFull,
        Some(11 | 26) => ArchiveError::Corrupt(text),
        Some(19) => ArchiveError::Conflict(text),
        _ => ArchiveError::Io(text),
    }
}
