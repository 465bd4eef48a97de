//! The archive on MariaDB: what every archive does, and what a server can suffer.

use super::*;
use crate::archive::conformance;

mod place;

async fn make() -> (MySqlArchive, place::Place) {
    let place = place::Place::new().await;
    (MySqlArchive::open(&place.settings()).await.unwrap(), place)
}

conformance::suite!(make);
