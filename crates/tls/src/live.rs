//! What is made of files, and made anew when they change.
//!
//! - The contents are compared, not the times of the files: links that are swapped and copies that keep
//!   their time are noticed as well.
//! - A certificate and its key change one after the other. What does not fit is complained of only if it is
//!   still there at the next look.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::certificate::{warn_of_expiry, warn_of_old_list};
use crate::files::{Contents, Files, TlsError};

pub(crate) struct Live<T> {
    files: Files,
    make: Make<T>,
    protocols: Vec<Vec<u8>>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// How it is made, with the protocols it is to offer.
type Make<T> = fn(&Files, &Contents, &[Vec<u8>]) -> Result<T, TlsError>;

/// What was found at the last look.
struct Seen {
    found: Result<Contents, String>,
    /// What is wrong with it, until it is logged.
    complaint: Option<TlsError>,
}

impl<T> Live<T> {
    /// Makes it of `files` as they are, offering `protocols` (ALPN).
    pub(crate) fn open(files: Files, protocols: &[&[u8]], make: Make<T>) -> Result<Self, TlsError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let contents = files.read()?;
        let made = make(&files, &contents, &protocols)?;
        warn_of_own(&files, &contents);
        Ok(Self {
            files,
            make,
            protocols,
            current: RwLock::new(Arc::new(made)),
            seen: Mutex::new(Seen {
                found: Ok(contents),
                complaint: None,
            }),
        })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the files, and makes it anew if they have changed and are good; whether it did.
    pub(crate) fn refresh(&self) -> bool {
        let mut seen = self.seen.lock();
        let read = self.files.read();
        let found = read.as_ref().map_err(ToString::to_string);
        if found == seen.found.as_ref().map_err(String::clone) {
            if let Some(error) = seen.complaint.take() {
                tracing::error!(%error, "changed certificates cannot be used; those that were read before stay in use");
            }
            return false;
        }
        let made = read.and_then(|contents| {
            let made = (self.make)(&self.files, &contents, &self.protocols);
            seen.found = Ok(contents);
            made
        });
        match made {
            Ok(made) => {
                *self.current.write() = Arc::new(made);
                seen.complaint = None;
                tracing::info!(files = %self.files.names(), "certificates were read again: new connections use them");
                if let Ok(contents) = &seen.found {
                    warn_of_own(&self.files, contents);
                }
                true
            }
            Err(error) => {
                if let TlsError::Read { .. } | TlsError::TooLarge(_) = error {
                    seen.found = Err(error.to_string());
                }
                seen.complaint = Some(error);
                false
            }
        }
    }
}

fn warn_of_own(files: &Files, contents: &Contents) {
    if let (Some(pair), Ok(Some(shown))) = (&files.pair, files.shown(contents)) {
        warn_of_expiry(&pair.cert_file, &shown.chain[0]);
    }
    if let (Some(file), Ok(lists)) = (&files.terms.revoked_file, files.revoked(contents)) {
        for list in lists {
            warn_of_old_list(file, &list);
        }
    }
}
