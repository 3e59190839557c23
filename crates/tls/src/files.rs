//! What is in the files: chains of certificates, private keys, authorities.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most of the errors of the libraries below are passed on in their own words"
)]

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;

use crate::certificate;
use crate::terms::Terms;

/// Where a chain of certificates and its private key are, both in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairFiles {
    /// The certificate that is shown, and after it those between it and the authority.
    pub cert_file: PathBuf,
    /// The key of the first of them, which is not encrypted.
    pub key_file: PathBuf,
}

/// What is wrong with a certificate, a key or the authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is so large that it is none of certificates.
    #[error("{}: it is larger than the {MAX_FILE_BYTES} bytes that are read of such a file", .0.display())]
    TooLarge(PathBuf),
    /// A file has no certificate.
    #[error("{}: there is no certificate in PEM form in it", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no list of revoked certificates.
    #[error("{}: there is no list of revoked certificates in it", .0.display())]
    NoList(PathBuf),
    /// A file has no key.
    #[error("{}: there is no private key in PEM form in it (an encrypted one cannot be used)", .0.display())]
    NoKey(PathBuf),
    /// A file's contents are not what they should be.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key is another certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key_file.display(), cert_file.display())]
    Mismatch {
        /// Where the certificate is.
        cert_file: PathBuf,
        /// Where the key is.
        key_file: PathBuf,
    },
    /// A self-signed certificate cannot be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Generate(String),
}

/// Which files one end is made of.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) pair: Option<KeyPairFiles>,
    pub(crate) authorities: Option<PathBuf>,
    /// And what is demanded of connections; a list of revoked certificates is a file, too.
    pub(crate) terms: Terms,
}

/// The bytes of these files.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    chain: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
    revoked: Vec<u8>,
}

/// What an end shows of itself.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Files {
    pub(crate) fn read(&self) -> Result<Contents, TlsError> {
        let pair = self.pair.as_ref();
        Ok(Contents {
            chain: read_or_nothing(pair.map(|pair| &pair.cert_file))?,
            key: read_or_nothing(pair.map(|pair| &pair.key_file))?,
            authorities: read_or_nothing(self.authorities.as_ref())?,
            revoked: read_or_nothing(self.terms.revoked_file.as_ref())?,
        })
    }

    /// The files as a log names them.
    pub(crate) fn names(&self) -> String {
        let pair = self
            .pair
            .iter()
            .flat_map(|pair| [&pair.cert_file, &pair.key_file]);
        let names = pair
            .chain(&self.authorities)
            .chain(&self.terms.revoked_file)
            .map(|file| file.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }

    /// What is shown, if anything is.
    pub(crate) fn shown(&self, contents: &Contents) -> Result<Option<Shown>, TlsError> {
        let Some(KeyPairFiles { cert_file, key_file }) = &self.pair else {
            return Ok(None);
        };
        let chain = certificates(cert_file, &contents.chain)?;
        certificate::check_readable(cert_file, &chain[0])?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(key_file.clone()),
            other => malformed(key_file, other),
        })?;
        Ok(Some(Shown { chain, key }))
    }

    /// Who is trusted to say who others are, if anybody is.
    pub(crate) fn authorities(&self, contents: &Contents) -> Result<Option<RootCertStore>, TlsError> {
        let Some(file) = &self.authorities else {
            return Ok(None);
        };
        let mut store = RootCertStore::empty();
        for certificate in certificates(file, &contents.authorities)? {
            store.add(certificate).map_err(|error| malformed(file, error))?;
        }
        Ok(Some(store))
    }

    /// The lists of revoked certificates: one at least if there is a file.
    pub(crate) fn revoked(
        &self,
        contents: &Contents,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let Some(file) = &self.terms.revoked_file else {
            return Ok(Vec::new());
        };
        let bytes = contents.revoked.as_slice();
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        let mut lists = found.map_err(|error| malformed(file, error))?;
        if lists.is_empty() && bytes.first() == Some(&DER_SEQUENCE) {
            lists.push(CertificateRevocationListDer::from(bytes.to_vec()));
        }
        match lists.is_empty() {
            true => Err(TlsError::NoList(file.clone())),
            false => Ok(lists),
        }
    }

    /// What the library says of whom to trust, with the name of the file that is at fault.
    pub(crate) fn distrusted(&self, authorities: &Path, error: &VerifierBuilderError) -> TlsError {
        match (error, &self.terms.revoked_file) {
            (VerifierBuilderError::InvalidCrl(problem), Some(file)) => malformed(
                file,
                format!("{problem:?} (a list must be of version 2, as RFC 5280 says)"),
            ),
            (other, _) => malformed(authorities, other),
        }
    }

    /// What the library says of a chain and a key, with the files' names.
    pub(crate) fn explain(&self, error: &rustls::Error) -> TlsError {
        let pair = self.pair.clone();
        match (error, pair) {
            (rustls::Error::InconsistentKeys(_), Some(KeyPairFiles { cert_file, key_file })) => {
                TlsError::Mismatch { cert_file, key_file }
            }
            (other, Some(KeyPairFiles { key_file, .. })) => malformed(&key_file, other),
            (other, None) => TlsError::Generate(other.to_string()),
        }
    }
}

/// The certificates in a file: one at least.
pub(crate) fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| malformed(file, error))?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate(file.to_owned())),
        false => Ok(found),
    }
}

pub(crate) fn malformed(file: &Path, problem: impl ToString) -> TlsError {
    let (file, problem) = (file.to_owned(), problem.to_string());
    TlsError::Malformed { file, problem }
}

fn read_or_nothing(file: Option<&PathBuf>) -> Result<Vec<u8>, TlsError> {
    file.map_or_else(|| Ok(Vec::new()), |file| read(file))
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX_FILE_BYTES => Err(TlsError::TooLarge(file.to_owned())),
        Ok(_) => Ok(bytes),
        Err(source) => {
            let file = file.to_owned();
            Err(TlsError::Read { file, source })
        }
    }
}

/// How everything in DER form begins that is not a single value.
const DER_SEQUENCE: u8 = 0x30;
const MAX_FILE_BYTES: u64 = 8 << 20;
