//! A fast, fixed hash: equal on every machine and for ever, so that a run's hash can be written down.
//!
//! It tells runs and states apart; it is no protection against anyone.

use std::fmt;

/// A hash in the making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(u64);

impl Digest {
    /// The hash of nothing.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// This hash continued by a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed ^ (mixed >> 29))
    }

    /// This hash continued by bytes and their length.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut digest = self.number(bytes.len() as u64);
        for word in words {
            digest = digest.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        digest.number(u64::from_le_bytes(last))
    }

    /// This hash continued by what a value looks like.
    #[must_use]
    pub fn display(self, value: &impl fmt::Display) -> Self {
        let mut writer = Writer(self);
        // Writing to a hash cannot fail.
        let _ = fmt::Write::write_fmt(&mut writer, format_args!("{value}"));
        writer.0
    }

    /// The hash as a number.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    /// The hash that [`Self::value`] gave.
    #[must_use]
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }
}

struct Writer(Digest);

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.bytes(text.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_orders_and_contents_matter() {
        let bytes = |bytes: &[u8]| Digest::EMPTY.bytes(bytes);
        assert_ne!(bytes(b"abc"), bytes(b"abd"));
        assert_ne!(bytes(b"abc"), bytes(b"abc\0"));
        assert_ne!(bytes(b"12345678"), bytes(b"12345678\0\0\0\0\0\0\0\0"));
        assert_ne!(
            Digest::EMPTY.number(1).number(2),
            Digest::EMPTY.number(2).number(1)
        );
        assert_eq!(bytes(b"the same"), bytes(b"the same"));
    }
}
