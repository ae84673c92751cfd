//! A certificate authority for one test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::{
    error::{Error, Result},
    program::{find, run},
};

const SCRIPT: &str = r#"
set -eu
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $new -days 30 -keyout ca.key -out ca.crt -subj "/CN=trunkline-test-ca" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
issue() {
    printf 'subjectAltName=%s\nextendedKeyUsage=%s\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n' "$3" "$4" >"$1.ext"
    openssl req $new -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" -extfile "$1.ext"
}
issue server localhost "DNS:localhost,IP:127.0.0.1,IP:::1" serverAuth
issue client app "DNS:app" clientAuth
cat server.crt server.key >server.pem
chmod 600 ./*.key server.pem
"#;

/// Whether a TLS server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It does not.
    Ignored,
    /// It serves nobody without.
    Required,
}

/// A certificate authority with one certificate for a server (`localhost`, 127.0.0.1, ::1) and one for a client (`app`); PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes new ones in `folder`, which must exist.
    ///
    /// # Errors
    /// If openssl is missing or fails.
    pub async fn generate(folder: &Path) -> Result<Self> {
        find("openssl", &[], "apt-get install openssl")?;
        fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
        run(Command::new("/bin/sh").args(["-c", SCRIPT]).current_dir(folder)).await?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The certificate of the authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    /// The server's private key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The server's certificate and key in one file.
    #[must_use]
    pub fn server_bundle(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The client's certificate.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.crt")
    }

    /// The client's private key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }
}
