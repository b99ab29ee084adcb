//! Whom destinations trust, and how they speak TLS and HTTP.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The authorities whose certificates are believed.
#[derive(Clone, Debug)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Those of this machine.
    ///
    /// # Errors
    /// A sentence: it has none.
    pub fn of_this_machine() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(format!("this machine trusts no certificate authority (install ca-certificates){why}"));
        }
        Ok(Self { certificates: found.certs })
    }

    /// Those in a PEM text, and no others.
    ///
    /// # Errors
    /// A sentence: there is none in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(Self { certificates }),
            Ok(_) => Err("it has no certificate in PEM".into()),
            Err(error) => Err(format!("it is no PEM file: {error}")),
        }
    }

    /// What a TLS client is made of.
    #[cfg(feature = "follow-syslog")]
    pub(super) fn client(&self) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
        let mut store = rustls::RootCertStore::empty();
        // One that is not understood is no reason to believe none; a machine has hundreds.
        let _ = store.add_parsable_certificates(self.certificates.iter().cloned());
        let config = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
    }

    /// An HTTP client that follows nobody elsewhere and waits so long for anything.
    #[cfg(any(feature = "follow-s3", feature = "follow-webhook"))]
    pub(super) fn agent(&self, patience: std::time::Duration) -> ureq::Agent {
        use ureq::tls::{Certificate, RootCerts, TlsConfig};
        let roots = self.certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(roots))
            .unversioned_rustls_crypto_provider(provider())
            .build();
        ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(1)
            .user_agent(concat!("shardcast/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The beginning of what a server says to a request that it does not grant.
#[cfg(any(feature = "follow-s3", feature = "follow-webhook"))]
pub(super) fn said(response: &mut ureq::http::Response<ureq::Body>) -> String {
    let status = response.status();
    let body = response.body_mut().with_config().limit(SAID_BYTES_READ).read_to_string().unwrap_or_default();
    let body: String = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SAID_CHARS_MAX).collect();
    if body.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {body}") }
}

#[cfg(any(feature = "follow-s3", feature = "follow-webhook"))]
const SAID_BYTES_READ: u64 = 64 * 1024;
#[cfg(any(feature = "follow-s3", feature = "follow-webhook"))]
const SAID_CHARS_MAX: usize = 300;
