//! What MySQL's error numbers mean, and what is to be done about them.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};

use crate::archive::ArchiveError;

/// Why work on a connection ended.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server or the connection.
    Sql(sqlx::Error),
    /// The work itself: the transaction is rolled back.
    Refused(ArchiveError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// What to do with the connection and the transaction after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same work may succeed if it is done again.
    Again,
    /// The server answered: it is rolled back, and the connection is good.
    Told,
    /// The connection is of no more use.
    Lost,
}

fn number(error: &sqlx::Error) -> Option<u16> {
    match error {
        sqlx::Error::Database(e) => {
            e.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
        }
        _ => None,
    }
}

/// Whether a column was to be added that the table has: no SQL of both servers asks for that.
pub(super) fn is_there(error: &sqlx::Error) -> bool {
    number(error) == Some(1060)
}

/// Judges an error.
pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    match number(error) {
        // Lock wait timeout, deadlock, and MariaDB's "record has changed since last read".
        Some(1205 | 1213 | 1020) => Verdict::Again,
        // Shutdown, killed, not writable any more (a primary that became a replica), idle for too long.
        Some(1053 | 1080 | 1152 | 1158..=1161 | 1184 | 1290 | 1317 | 1792 | 1836 | 1927 | 3169 | 4031) => {
            Verdict::Lost
        }
        Some(_) => Verdict::Told,
        None => match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                Verdict::Told
            }
            _ => Verdict::Lost,
        },
    }
}

/// Translates an error of work on a connection.
pub(super) fn classify(error: &sqlx::Error) -> ArchiveError {
    let text = error.to_string();
    // A full disk hides in the texts of several numbers: "errno: 28", "Got error 28", "No space left on device".
    let full = ["errno: 28", "error 28 ", "No space left"].iter().any(|sign| text.contains(sign));
    let advice = match number(error) {
        Some(1021 | 1114 | 3675) => return ArchiveError::DiskFull,
        Some(_) if full => return ArchiveError::DiskFull,
        Some(1205 | 1213 | 1020) => return ArchiveError::Locked,
        Some(1022 | 1062 | 1586) => return ArchiveError::Conflict(text),
        Some(126 | 127 | 1034 | 1035 | 1146 | 1194 | 1195 | 1712 | 1877 | 1932) => {
            return ArchiveError::Corrupt(text);
        }
        Some(1290 | 1792 | 1836) => {
            "the server takes no writes: is it a replica? `saver.mysql.url` must lead to the primary"
        }
        Some(1044 | 1045 | 1142 | 1143 | 1227 | 1698) => {
            "the user lacks a right: grant it all privileges on the database"
        }
        Some(1153) => "raise the server's max_allowed_packet",
        Some(1040 | 1203) => "the server has too many connections: raise its max_connections",
        Some(1049) => "create the database: CREATE DATABASE … CHARACTER SET utf8mb4",
        Some(_) => "MySQL",
        None => match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return ArchiveError::Corrupt(text),
            _ => "the connection to MySQL was lost: does the server run?",
        },
    };
    ArchiveError::Io(format!("{advice}: {text}"))
}

/// Translates an error of connecting.
pub(super) fn connecting(error: &sqlx::Error, options: &MySqlConnectOptions) -> ArchiveError {
    if number(error).is_some() {
        return match classify(error) {
            ArchiveError::Io(text) => ArchiveError::Io(format!("{}: {text}", name(options))),
            other => other,
        };
    }
    let text = error.to_string();
    let advice = match error {
        // What some servers generate for themselves.
        _ if text.contains("UnsupportedCertVersion") => {
            "the server's certificate is X.509 version 1: give it one of version 3, or say ssl-mode=DISABLED"
        }
        _ if text.contains("RSA auth backend") => {
            "the user logs in by a password that may only be sent over TLS: say ssl-mode=REQUIRED in `saver.mysql.url`"
        }
        sqlx::Error::Tls(_) => "TLS failed: check the ssl parameters of `saver.mysql.url`",
        sqlx::Error::Configuration(_) => "check `saver.mysql.url`",
        _ => "cannot connect: does the server run, and is the way to it open?",
    };
    ArchiveError::Io(format!("{}: {advice} {text}", name(options)))
}

/// The server does not answer.
pub(super) fn silent(options: &MySqlConnectOptions, waited: Duration) -> ArchiveError {
    let name = name(options);
    ArchiveError::Io(format!(
        "{name}: no answer within {waited:?}: does the server run, and is the way to it open?"
    ))
}

/// `host:port/database`, without user and password.
pub(super) fn name(options: &MySqlConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}
