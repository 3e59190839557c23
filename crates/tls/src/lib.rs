//! TLS for Quorate: certificates, keys and trust from files, and the handshakes made with them.
//!
//! - [`Acceptor`] is the listening end, [`Connector`] the dialing one. Both speak TLS 1.2 and 1.3 only.
//! - Files are checked when an end is opened, and every error names its file. [`Acceptor::refresh`] and
//!   [`Connector::refresh`] read them again: what changed counts for the handshakes that begin later, and what
//!   is wrong leaves everything as it was.
//! - Each connection proves itself anew: no session is resumed, so that no handshake skips what is checked.
//! - A handshake has a deadline. Who the other end is, is what its own certificate says ([`PeerCertificate`]).
//! - Nothing that another end or a file contains makes it panic.
//!
//! It knows nothing of consensus, etcd or HTTP. It asks nobody else about a certificate: revocation is by lists in files.

mod accept;
mod admit;
mod certificate;
mod connect;
mod files;
mod handshake;
mod live;
mod self_signed;
mod stream;
mod terms;
#[cfg(feature = "testing")]
pub mod testing;

pub use accept::{Acceptor, Clients};
pub use certificate::{PeerCertificate, ShownChain};
pub use connect::{BlockingStream, Connector, Trust};
pub use files::{KeyPairFiles, TlsError};
pub use handshake::HandshakeError;
pub use self_signed::self_signed;
pub use stream::Stream;
pub use terms::{Allowed, Protocol, Suite, Terms, TermsError, Version};
