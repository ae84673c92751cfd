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

/// Whether a TLS server requires a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Client certificates are not requested.
    Ignored,
    /// Clients without a certificate are refused.
    Required,
}

/// A certificate authority with one certificate for a server (`localhost`, 127.0.0.1, ::1) and one for a client
/// (`app`); PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Generates new certificates in `folder`, which is created.
    ///
    /// # Errors
    /// If openssl is missing or fails.
    pub async fn generate(folder: &Path) -> Result<Self> {
        find("openssl", &[], "apt-get install openssl")?;
        fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
        run(Command::new("/bin/sh").args(["-c", SCRIPT]).current_dir(folder)).await?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Path of the authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Path of the server's certificate.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    /// Path of the server's private key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// Path of a file with the server's certificate and key.
    #[must_use]
    pub fn server_bundle(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Path of the client's certificate.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.crt")
    }

    /// Path of the client's private key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }
}
