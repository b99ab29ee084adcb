//! An authority and a certificate for localhost, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Dir, Process, SOON};
use crate::tools::Tool;

/// Files in PEM.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn new(dir: &Dir) -> Self {
        let path = |name: &str| dir.path().join(name);
        let (authority, certificate, key) = (path("authority.pem"), path("certificate.pem"), path("key.pem"));
        let ca_key = path("authority.key");
        fs::write(path("extensions"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .unwrap();
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        openssl(dir, &["req", "-x509", "-days", "2", "-subj", "/CN=an authority"], &new_key, &ca_key, &authority);
        let request = path("request.pem");
        openssl(dir, &["req", "-subj", "/CN=localhost"], &new_key, &key, &request);
        let mut sign = Command::new(Tool::Openssl.path().unwrap());
        sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&request);
        sign.arg("-CA").arg(&authority).arg("-CAkey").arg(&ca_key);
        sign.arg("-extfile").arg(path("extensions")).arg("-out").arg(&certificate);
        Process::start(dir, "openssl", &mut sign).succeed(SOON);
        Self { authority, certificate, key }
    }
}

fn openssl(dir: &Dir, what: &[&str], how: &[&str], key: &Path, out: &Path) {
    let mut command = Command::new(Tool::Openssl.path().unwrap());
    command.args(what).args(how).arg("-keyout").arg(key).arg("-out").arg(out);
    Process::start(dir, "openssl", &mut command).succeed(SOON);
}
