//! What the program prints.
//!
//! - A reader that has seen enough, such as `head`, closes its end of the pipe: that ends the work
//!   it was for, quietly, and is nobody's fault.
//! - Nothing that is printed can make the process panic, whatever became of its standard streams.

use anyhow::Context;
use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Nobody reads standard output any more.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes to standard output at once, also if that is a file or a pipe.
///
/// # Errors
///
/// [`ReaderGone`] if its reader has gone, else why it cannot be written to.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write_to(&mut io::stdout().lock(), text.as_bytes())
}

/// [`print`] for what is no text.
///
/// # Errors
///
/// As [`print`].
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    write_to(&mut io::stdout().lock(), bytes)
}

/// [`print`] for what the process does not live for: it goes on without its reader.
///
/// # Errors
///
/// If standard output cannot be written to for another reason.
pub(crate) fn print_if_read(text: &str) -> anyhow::Result<()> {
    print(text).or_else(|error| {
        if error.is::<ReaderGone>() {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// Writes one line about a mistake or a failure to standard error.
pub(crate) fn complain(text: &str) {
    // There is no other place to say that standard error is gone.
    let _ = writeln!(io::stderr(), "quorate: {text}");
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_is_told_from_a_full_disk() {
        let gone = write_to(&mut Broken(ErrorKind::BrokenPipe), b"text").unwrap_err();
        assert!(gone.is::<ReaderGone>(), "{gone}");
        let full = write_to(&mut Broken(ErrorKind::StorageFull), b"text").unwrap_err();
        assert!(!full.is::<ReaderGone>(), "{full}");
    }
}
