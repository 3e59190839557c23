//! What the ids of a restored cluster are computed from besides its settings.
//!
//! Members compute their ids from names, URLs and the token. A cluster that was restored has others than the
//! one it is a copy of, though it has the same settings: each member's directory has a file with a salt, drawn
//! from the backup and from how it was restored. Members restored from different backups, or in different
//! ways, have different salts: they take each other for strangers.
//!
//! ```text
//! quorate restored
//! format 1
//! salt 5d0b13e4754f2445…       (64 hexadecimal digits)
//! crc32c 1a2b3c4d              (of all lines above)
//! ```

use std::fs;
use std::io;
use std::path::Path;

use quorate_kv::Bump;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A salt, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Salt(String);

/// Why the salt of a directory is not known, in one line that says what to do.
#[derive(Debug, Error)]
#[error(
    "{file}: {problem}; restore the directory from the backup again, or copy the file from another member of the restored cluster"
)]
pub struct SaltError {
    file: String,
    problem: String,
}

impl Salt {
    /// The salt of what is made of a backup with this digest in this way.
    pub(super) fn of(digest: &[u8; 32], bump: Bump) -> Salt {
        let mut sha = Sha256::new();
        sha.update(b"quorate restored ");
        sha.update(digest);
        sha.update(bump.by.to_be_bytes());
        sha.update([u8::from(bump.compact)]);
        let digits = sha.finalize();
        Salt(digits.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_file(&self) -> Vec<u8> {
        let lines = format!("{TITLE}\nformat {FORMAT}\nsalt {}\n", self.0);
        let checksum = crc32c::crc32c(lines.as_bytes());
        format!("{lines}crc32c {checksum:08x}\n").into_bytes()
    }

    fn parse(text: &[u8]) -> Result<Salt, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(format!("it does not begin with the line {TITLE:?}"));
        }
        let format = lines.next().and_then(|line| line.strip_prefix("format "));
        if format != Some(FORMAT) {
            let found = format.unwrap_or_default();
            return Err(format!("its format is {found:?}, this program's is {FORMAT}"));
        }
        let salt = lines.next().and_then(|line| line.strip_prefix("salt "));
        let salt = salt.filter(|salt| salt.len() == 64 && salt.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let salt = Salt(salt.ok_or("it has no salt")?.to_owned());
        match salt.to_file() == text.as_bytes() {
            true => Ok(salt),
            false => Err("its checksum does not match".to_owned()),
        }
    }
}

/// The salt of a data directory; none if it was not made from a backup.
pub(crate) fn salt(data_dir: &Path) -> Result<Option<Salt>, SaltError> {
    let file = data_dir.join(FILE);
    let failed = |problem: String| SaltError {
        file: file.display().to_string(),
        problem,
    };
    match fs::read(&file) {
        Ok(text) => Salt::parse(&text).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

pub(super) const FILE: &str = "RESTORED";
const TITLE: &str = "quorate restored";
const FORMAT: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_comes_back_and_tells_backups_and_bumps_apart() {
        let bump = Bump {
            by: 7,
            compact: false,
        };
        let salt = Salt::of(&[1; 32], bump);
        assert_eq!(Salt::parse(&salt.to_file()), Ok(salt.clone()));
        assert_ne!(salt, Salt::of(&[2; 32], bump));
        assert_ne!(salt, Salt::of(&[1; 32], Bump::default()));
        assert_ne!(
            salt,
            Salt::of(
                &[1; 32],
                Bump {
                    compact: true,
                    ..bump
                }
            )
        );
    }

    #[test]
    fn a_damaged_salt_is_refused() {
        let good = Salt::of(&[1; 32], Bump::default()).to_file();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Salt::parse(&bad).is_err(), "byte {at}");
            assert!(Salt::parse(&good[..at]).is_err(), "{at} bytes");
        }
    }
}
