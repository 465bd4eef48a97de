//! What a failed handshake says to an operator.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Puts a handshake's failure into words that say what to look at. `None`: the connection broke, which is no matter of
/// certificates.
pub fn peer_error(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidMessage(_) => "it does not speak TLS: is it configured as plaintext?".to_owned(),
        // Two CAs of one name: the signature is not of the one that we have.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is of another CA than ours".to_owned()
        }
        Error::InvalidCertificate(reason) => format!("its certificate is refused: {reason}"),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate, and we have shown none".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnsupportedCertificate),
        ) => format!("it refuses our certificate: {alert:?}"),
        other => format!("the TLS handshake failed: {other}"),
    })
}
