//! Authorities and the certificates that they issue, for tests.
//!
//! It panics where a test would.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use crate::KeyPairFiles;

/// Somebody who issues certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that is to be issued.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    hosts: Vec<String>,
    common_names: Vec<String>,
    expired: bool,
    serial: Option<u64>,
}

impl Leaf {
    /// One that is for these hosts, names or addresses.
    pub fn for_hosts<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Leaf {
        Leaf {
            hosts: hosts.into_iter().map(Into::into).collect(),
            ..Leaf::default()
        }
    }

    /// One for nobody's host, with a common name.
    pub fn named(common_name: &str) -> Leaf {
        Leaf::default().and_named(common_name)
    }

    /// The same with one more common name.
    #[must_use]
    pub fn and_named(mut self, common_name: &str) -> Leaf {
        self.common_names.push(common_name.to_owned());
        self
    }

    /// The same with this serial number, by which it can be revoked.
    #[must_use]
    pub fn numbered(mut self, serial: u64) -> Leaf {
        self.serial = Some(serial);
        self
    }

    /// The same, but valid long ago.
    #[must_use]
    pub fn expired(mut self) -> Leaf {
        self.expired = true;
        self
    }
}

impl Authority {
    /// One of this name.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key is generated");
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished([name]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        Authority {
            certificate: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes its own certificate to `directory/name.pem`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let file = directory.join(format!("{name}.pem"));
        fs::write(&file, &self.certificate).expect("an authority's certificate is written");
        file
    }

    /// Writes the list of its revoked certificates, by their numbers, to `directory/name.pem`.
    ///
    /// # Panics
    /// When it cannot be made or written.
    pub fn revoke(&self, directory: &Path, name: &str, serials: &[u64]) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.issuer).expect("a list is signed");
        let file = directory.join(format!("{name}.pem"));
        fs::write(&file, signed.pem().expect("a list is text")).expect("a list is written");
        file
    }

    /// Issues a certificate, with its key, to `directory/name.pem` and `directory/name-key.pem`.
    ///
    /// # Panics
    /// When it cannot be made or written.
    pub fn issue(&self, directory: &Path, name: &str, leaf: &Leaf) -> KeyPairFiles {
        let key = KeyPair::generate().expect("a key is generated");
        let mut params =
            CertificateParams::new(leaf.hosts.as_slice()).expect("the hosts can be in a certificate");
        params.distinguished_name = distinguished(leaf.common_names.iter().map(String::as_str));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.serial_number = leaf.serial.map(SerialNumber::from);
        if leaf.expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let signed = params.signed_by(&key, &self.issuer);
        let certificate = signed.expect("a certificate is signed");
        let pair = KeyPairFiles {
            cert_file: directory.join(format!("{name}.pem")),
            key_file: directory.join(format!("{name}-key.pem")),
        };
        fs::write(&pair.cert_file, certificate.pem()).expect("a certificate is written");
        fs::write(&pair.key_file, key.serialize_pem()).expect("a key is written");
        pair
    }
}

fn distinguished<'a>(common_names: impl IntoIterator<Item = &'a str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (place, common_name) in common_names.into_iter().enumerate() {
        // The library keeps one entry of each type: the second common name goes in by its number.
        match place {
            0 => name.push(DnType::CommonName, common_name),
            _ => name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), common_name),
        }
    }
    name
}
