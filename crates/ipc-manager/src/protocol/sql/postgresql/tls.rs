// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a PostgreSQL server's certificate is looked at: PostgreSQL manual, "SSL Support".

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::protocol::sql::encryption::{Encryption, Mode};
use crate::protocol::sql::tls::named_root;
use crate::protocol::sql::value::{Failure, Trouble};

/// The file with the certificates that clients of PostgreSQL trust when none is named, in `HOME`.
const ROOT: &str = ".postgresql/root.crt";

/// What a session is encrypted with.
pub(super) fn client_config(encryption: &Encryption, mode: Mode) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusted = match mode {
        Mode::Disable | Mode::Prefer | Mode::Require => None,
        Mode::VerifyCa | Mode::VerifyFull => {
            Some(Trusted::read(&root(encryption)?, mode == Mode::VerifyFull, &provider)?)
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::new(Trouble::Other, error))?;
    let verifier = Arc::new(Verifier { trusted, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn root(encryption: &Encryption) -> Result<PathBuf, Failure> {
    if let Some(named) = named_root(encryption)? {
        return Ok(named);
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(ROOT));
    home.filter(|path| path.is_file()).ok_or_else(|| {
        let detail = format!("the route has no `sslrootcert`, and there is no ~/{ROOT}: no certificate is trusted");
        Failure::new(Trouble::Untrusted, detail)
    })
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    /// A server may show one of them itself.
    themselves: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl Trusted {
    fn read(file: &std::path::Path, checks_name: bool, provider: &Arc<CryptoProvider>) -> Result<Self, Failure> {
        let wrong = |detail: String| Failure::new(Trouble::Untrusted, format!("{}: {detail}", file.display()));
        let themselves: Vec<_> = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(format!("it holds no certificates: {error}")))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(themselves.iter().cloned());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let chains = chains.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { chains, themselves, checks_name })
    }

    fn check(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.themselves.contains(shown) {
            let name = || verify_server_name(&ParsedCertificate::try_from(shown)?, host);
            return if self.checks_name { name() } else { Ok(()) };
        }
        match self.chains.verify_server_cert(shown, between, host, &[], now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(()),
            checked => checked.map(drop),
        }
    }
}

/// See the module.
#[derive(Debug)]
struct Verifier {
    /// None: whoever answers will do.
    trusted: Option<Trusted>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.trusted.as_ref().map_or(Ok(()), |trusted| trusted.check(shown, between, host, now));
        checked.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
