//! Tokens: what stands for a user that has shown its password.

use std::fmt;

use http::HeaderMap;
use quorate_kv::{AuthRevision, Caller, Credentials, TokenDigest, UserName};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::config::{AuthConfig, AuthTokenError, TokenKind};
use super::jwt::Jwt;
use super::password::no_randomness;

/// A token as a client shows it. Never printed.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// A token that nobody can guess: 256 random bits.
    pub(crate) fn random() -> Result<Token, Status> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(no_randomness)?;
        Ok(Token(hex(&random)))
    }

    /// A token that says itself who it stands for.
    pub(super) fn signed(token: String) -> Token {
        Token(token)
    }

    /// The token that a request came with: of gRPC clients as `token`, of HTTP ones as `authorization`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Token> {
        let text = |name: &str| headers.get(name)?.to_str().ok().filter(|text| !text.is_empty());
        let bearer = |text| str::strip_prefix(text, "Bearer ").unwrap_or(text);
        let token = text("token").or_else(|| text("authorization").map(bearer))?;
        Some(Token(token.to_owned()))
    }

    /// The token for its owner.
    pub(crate) fn expose(self) -> String {
        self.0
    }

    /// What tells it, without giving it away.
    pub(crate) fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Whether it could be one of [`Token::random`].
    pub(crate) fn is_well_formed(&self) -> bool {
        self.0.len() == 64 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How this member makes and reads tokens.
pub(crate) enum Tokens {
    /// Random numbers; [`quorate_kv::Sessions`] knows whose.
    Simple,
    /// Signed statements.
    Jwt(Box<Jwt>),
}

impl Tokens {
    /// As the configuration says; reads the keys.
    pub(crate) fn load(config: &AuthConfig) -> Result<Tokens, AuthTokenError> {
        Ok(match &config.tokens {
            TokenKind::Simple => Tokens::Simple,
            TokenKind::Jwt(jwt) => Tokens::Jwt(Box::new(Jwt::load(jwt)?)),
        })
    }
}

/// A user, as known at a revision.
pub(crate) fn caller(user: UserName, revision: AuthRevision) -> Caller {
    Caller::User(Credentials { user, revision })
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Token::of(&headers).map(Token::expose)
    }

    #[test]
    fn a_token_is_taken_from_either_header() {
        assert_eq!(shown("token", "abc").as_deref(), Some("abc"));
        assert_eq!(shown("authorization", "abc").as_deref(), Some("abc"));
        assert_eq!(shown("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(shown("token", ""), None);
        assert_eq!(shown("cookie", "abc"), None);
    }

    #[test]
    fn tokens_differ_and_are_not_printed() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert!(a.is_well_formed() && b.is_well_formed());
        assert_ne!(a.digest(), b.digest());
        assert_eq!(format!("{a:?}"), "Token(..)");
        assert_ne!(a.clone().expose(), b.expose());
    }
}
