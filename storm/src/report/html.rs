//! The report as one HTML page.

use super::RunReport;

/// The whole page: no other file, no network.
#[must_use]
pub fn page(report: &RunReport) -> String {
    format!("<!doctype html><title>{}</title>", report.name)
}
