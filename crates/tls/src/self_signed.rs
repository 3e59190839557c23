//! Certificates that nobody vouches for: they keep what is sent from being read on the way, no more.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use crate::certificate::is_for;
use crate::files::{KeyPairFiles, TlsError, certificates, read};

/// A self-signed certificate for `hosts`, names or addresses, in `directory`, which is made if it is not there.
///
/// One that was made before for these hosts is used again. The key can be read by the user of this process only.
///
/// # Errors
/// When it cannot be made or written.
pub fn self_signed(directory: &Path, name: &str, hosts: &[String]) -> Result<KeyPairFiles, TlsError> {
    let pair = KeyPairFiles {
        cert_file: directory.join(format!("{name}-cert.pem")),
        key_file: directory.join(format!("{name}-key.pem")),
    };
    if is_good(&pair, hosts) {
        return Ok(pair);
    }
    let (certificate, key) = generate(hosts).map_err(|error| TlsError::Generate(error.to_string()))?;
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(|source| unwritten(directory, source))?;
    write(&pair.key_file, &key, 0o600)?;
    write(&pair.cert_file, &certificate, 0o644)?;
    Ok(pair)
}

/// Whether there is a pair for these hosts.
fn is_good(pair: &KeyPairFiles, hosts: &[String]) -> bool {
    let chain = read(&pair.cert_file).and_then(|bytes| certificates(&pair.cert_file, &bytes));
    let Ok(chain) = chain else { return false };
    pair.key_file.exists() && hosts.iter().all(|host| is_for(&chain[0], host))
}

/// A certificate and its key, in PEM form.
fn generate(hosts: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "quorate");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let year = this_year();
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + VALID_YEARS, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn this_year() -> i32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let years = since.map_or(0, |since| since.as_secs() / SECONDS_PER_YEAR);
    1970 + i32::try_from(years).unwrap_or(0)
}

/// Writes a file whole or not at all.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let draft = file.with_extension("new");
    let written = || -> io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&draft, file)
    };
    written().map_err(|source| unwritten(file, source))
}

fn unwritten(file: &Path, source: io::Error) -> TlsError {
    let file = file.to_owned();
    TlsError::Read { file, source }
}

const VALID_YEARS: i32 = 10;
const SECONDS_PER_YEAR: u64 = 31_556_952;
