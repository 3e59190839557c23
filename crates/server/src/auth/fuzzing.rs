//! Tokens, for the fuzz targets.

use http::HeaderMap;
use quorate_kv::{Credentials, TokenDigest};

use super::jwt::Jwt;
use super::{AuthTokenError, JwtConfig, Token};

/// Reads tokens that say themselves who they stand for.
pub struct JwtReader(Jwt);

impl JwtReader {
    /// With the keys that the configuration names.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load(config: &JwtConfig) -> Result<JwtReader, AuthTokenError> {
        Jwt::load(config).map(JwtReader)
    }

    /// Whom the token in these headers stands for.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap) -> Option<Credentials> {
        self.0.check(&Token::of(headers)?)
    }
}

/// What is looked up of the token in these headers, if it can be one of the random ones.
#[must_use]
pub fn simple_token(headers: &HeaderMap) -> Option<TokenDigest> {
    let token = Token::of(headers)?;
    token.is_well_formed().then(|| token.digest())
}
