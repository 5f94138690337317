// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver is told about encryption.

use mysql::SslOpts;

use crate::protocol::sql::encryption::{Encryption, Mode};
use crate::protocol::sql::tls::named_root;
use crate::protocol::sql::value::Failure;

/// None: no encryption. The driver trusts the public authorities beside a file that a route names, and those vouch for
/// anybody's name; so where a certificate is checked, its name is, too.
pub(super) fn options(encryption: &Encryption, mode: Mode) -> Result<Option<SslOpts>, Failure> {
    if mode == Mode::Disable {
        return Ok(None);
    }
    // The driver takes what the process has chosen, and cannot choose where two are built in.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let is_checked = mode >= Mode::VerifyCa;
    let root = named_root(encryption)?.filter(|_| is_checked);
    Ok(Some(SslOpts::default().with_root_cert_path(root).with_danger_accept_invalid_certs(!is_checked)))
}
