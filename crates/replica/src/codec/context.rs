//! What a configuration says of a member beside what the core needs: who it is to people, and where.
//!
//! - It travels in [`MemberInfo::context`], so that every member knows how to reach every other, and a
//!   restart needs no flags but the data directory.
//! - It comes from other processes: what cannot be read is an empty context, never a failure.

use bytes::Bytes;
use prost::Message as _;
use quorate_raft::MemberInfo;

/// Who a member is to people, and where its peers reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberContext {
    /// What the log calls it; empty if it has no name yet.
    pub name: String,
    /// Where its peers reach it, as `host:port`; the first is dialed.
    pub addresses: Vec<String>,
}

/// Fields may be added with new tags; none changes its meaning or type.
#[derive(Clone, PartialEq, prost::Message)]
struct WireContext {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    addresses: Vec<String>,
}

impl MemberContext {
    /// One that is reached at `address`.
    #[must_use]
    pub fn at(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            addresses: vec![address.into()],
        }
    }

    /// What is said of a member; empty if nothing is, or nothing that this program can read.
    #[must_use]
    pub fn of(info: &MemberInfo) -> Self {
        let wire = WireContext::decode(info.context.clone()).unwrap_or_default();
        Self {
            name: wire.name,
            addresses: wire.addresses,
        }
    }

    /// The form in which a configuration carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wire = WireContext {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
        };
        wire.encode_to_vec().into()
    }

    /// An ordinary member of whom this is said.
    #[must_use]
    pub fn into_info(self) -> MemberInfo {
        MemberInfo {
            context: self.encode(),
            ..MemberInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_back_and_an_unreadable_one_is_empty() {
        let context = MemberContext {
            name: "a".to_owned(),
            addresses: vec!["h:1".to_owned(), "h:2".to_owned()],
        };
        let info = context.clone().into_info();
        assert_eq!(MemberContext::of(&info), context);
        let golden: &[u8] = &[10, 1, b'a', 18, 3, b'h', b':', b'1', 18, 3, b'h', b':', b'2'];
        assert_eq!(info.context, golden);
        for context in [&[][..], &[0xff, 0xff], b"some other program's"] {
            let info = MemberInfo {
                context: Bytes::copy_from_slice(context),
                ..MemberInfo::default()
            };
            assert_eq!(MemberContext::of(&info), MemberContext::default());
        }
    }
}
