// SPDX-License-Identifier: MIT OR Apache-2.0
//! What encrypted connections to all servers have in common: the file of certificates that are trusted, and how an error
//! tells that one was not.

use std::error::Error;
use std::path::{Path, PathBuf};

use super::encryption::Encryption;
use super::value::{Failure, Trouble};

/// Where systems have the certificates that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The file that a route names; `system` stands for the system's.
pub(super) fn named_root(encryption: &Encryption) -> Result<Option<PathBuf>, Failure> {
    match encryption.root() {
        None => Ok(None),
        Some("system") => match SYSTEM.iter().find(|path| Path::new(path).exists()) {
            Some(path) => Ok(Some(PathBuf::from(path))),
            None => Err(Failure::new(Trouble::Untrusted, "the system has no file of certificates that it trusts")),
        },
        Some(path) if Path::new(path).is_file() => Ok(Some(path.into())),
        Some(path) => Err(Failure::new(Trouble::Untrusted, format!("there is no file of certificates at {path}"))),
    }
}

/// Whether a connection failed because the server's certificate is not trusted, or not for this host.
pub(super) fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |&error| error.source());
    errors.any(|error| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref::<rustls::Error>());
        matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
    })
}
