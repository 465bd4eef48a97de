//! Row numbers for the deliveries of multicasts.

use crate::{
    archive::{Archive, ArchiveResult, ROW_BLOCK},
    model::Row,
};

/// A block of numbers that nobody else gets.
#[derive(Debug, Default)]
pub(super) struct RowNumbers {
    next: Option<i64>,
    left: u64,
}

impl RowNumbers {
    /// Row numbers for `count` deliveries.
    pub(super) async fn take<A: Archive>(&mut self, archive: &A, count: usize) -> ArchiveResult<Vec<Row>> {
        let wanted = count as u64;
        if self.next.is_none() || self.left < wanted {
            let first = archive.row_block().await?;
            *self = Self { next: Some(first.0), left: ROW_BLOCK };
        }
        let first = self.next.unwrap_or_default();
        self.left -= wanted;
        self.next = Some(first - wanted.cast_signed());
        Ok((0..wanted.cast_signed()).map(|n| Row(first - n)).collect())
    }
}
