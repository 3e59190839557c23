//! What a member is told about passwords and tokens.
//!
//! `--auth-token` reads as etcd's: `simple`, or `jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use thiserror::Error;

/// What a member is told about passwords and tokens. All members of a cluster should be told the same.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// What stands for a user that has logged in.
    pub tokens: TokenKind,
    /// How long a token of [`TokenKind::Simple`] lives after its last use.
    pub simple_ttl: Duration,
    /// How much work a password's hash is.
    pub bcrypt_cost: BcryptCost,
    /// Bytes that a new password must have. etcd takes any that is not empty.
    pub min_password_bytes: usize,
    /// Logins as a user that may fail from an address before more have to wait.
    pub max_failed_logins: u32,
}

impl Default for AuthConfig {
    fn default() -> AuthConfig {
        AuthConfig {
            tokens: TokenKind::Simple,
            simple_ttl: Duration::from_secs(300),
            bcrypt_cost: BcryptCost::default(),
            min_password_bytes: 1,
            max_failed_logins: 10,
        }
    }
}

/// What stands for a user that has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A random number, which every member is told the digest of by the log.
    Simple,
    /// A signed statement, which any holder of the key can check.
    Jwt(JwtConfig),
}

/// How JSON web tokens are signed and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// The algorithm.
    pub sign_method: SignMethod,
    /// The file of the public key, in PEM. None: that of the private key does.
    pub public_key: Option<PathBuf>,
    /// The file of the private key, in PEM; for HS256 and its kin, of the secret itself. None: this member
    /// checks tokens and makes none.
    pub private_key: Option<PathBuf>,
    /// How long a token lives.
    pub ttl: Duration,
}

/// An algorithm for signatures, by its JOSE name: `RS256`, `ES384`, `EdDSA`, `HS512`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignMethod {
    algorithm: Algorithm,
    family: Family,
}

/// What kind of key an algorithm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Secret,
    Rsa,
    Ec,
    Ed,
}

impl SignMethod {
    pub(super) fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn family(self) -> Family {
        self.family
    }
}

impl FromStr for SignMethod {
    type Err = AuthTokenError;

    fn from_str(text: &str) -> Result<SignMethod, AuthTokenError> {
        let (algorithm, family) = match text {
            "HS256" => (Algorithm::HS256, Family::Secret),
            "HS384" => (Algorithm::HS384, Family::Secret),
            "HS512" => (Algorithm::HS512, Family::Secret),
            "RS256" => (Algorithm::RS256, Family::Rsa),
            "RS384" => (Algorithm::RS384, Family::Rsa),
            "RS512" => (Algorithm::RS512, Family::Rsa),
            "PS256" => (Algorithm::PS256, Family::Rsa),
            "PS384" => (Algorithm::PS384, Family::Rsa),
            "PS512" => (Algorithm::PS512, Family::Rsa),
            "ES256" => (Algorithm::ES256, Family::Ec),
            "ES384" => (Algorithm::ES384, Family::Ec),
            "EdDSA" => (Algorithm::EdDSA, Family::Ed),
            _ => return Err(AuthTokenError::UnknownSignMethod(text.to_owned())),
        };
        Ok(SignMethod { algorithm, family })
    }
}

/// The work that a password's hash is: each step doubles it. From 4 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BcryptCost(u32);

impl BcryptCost {
    /// The cost, if it is one that bcrypt has.
    pub fn new(cost: u32) -> Option<BcryptCost> {
        (4..=31).contains(&cost).then_some(BcryptCost(cost))
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl Default for BcryptCost {
    fn default() -> BcryptCost {
        BcryptCost(10)
    }
}

/// What is wrong with `--auth-token`, in one line that says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthTokenError {
    /// Neither `simple` nor `jwt`.
    #[error("--auth-token {0:?} must be \"simple\" or begin with \"jwt,\"")]
    UnknownKind(String),
    /// An option of `jwt` that there is not.
    #[error("--auth-token jwt has no option {0:?}: it has sign-method, pub-key, priv-key and ttl")]
    UnknownOption(String),
    /// An option is missing.
    #[error("--auth-token jwt needs {0}")]
    Missing(&'static str),
    /// The algorithm is not one of those that are known.
    #[error(
        "--auth-token jwt: sign-method {0:?} is none of HS, RS, PS with 256, 384, 512, ES256, ES384, EdDSA"
    )]
    UnknownSignMethod(String),
    /// The time to live cannot be read.
    #[error("--auth-token jwt: ttl {0:?} must be like 300s, 5m or 1h30m, and more than nothing")]
    Ttl(String),
    /// A key cannot be read or used.
    #[error("--auth-token jwt: {path}: {problem}")]
    Key {
        /// Its file.
        path: String,
        /// Why it cannot.
        problem: String,
    },
}

impl FromStr for TokenKind {
    type Err = AuthTokenError;

    fn from_str(text: &str) -> Result<TokenKind, AuthTokenError> {
        let mut parts = text.split(',');
        match parts.next() {
            Some("simple") if text == "simple" => return Ok(TokenKind::Simple),
            Some("jwt") => {}
            _ => return Err(AuthTokenError::UnknownKind(text.to_owned())),
        }
        let (mut sign_method, mut public_key, mut private_key) = (None, None, None);
        let mut ttl = DEFAULT_JWT_TTL;
        for part in parts {
            match part.split_once('=') {
                Some(("sign-method", method)) => sign_method = Some(method.parse()?),
                Some(("pub-key", path)) => public_key = Some(PathBuf::from(path)),
                Some(("priv-key", path)) => private_key = Some(PathBuf::from(path)),
                Some(("ttl", text)) => {
                    ttl = duration(text).ok_or_else(|| AuthTokenError::Ttl(text.to_owned()))?;
                }
                Some(_) | None => return Err(AuthTokenError::UnknownOption(part.to_owned())),
            }
        }
        if public_key.is_none() && private_key.is_none() {
            return Err(AuthTokenError::Missing("pub-key or priv-key"));
        }
        Ok(TokenKind::Jwt(JwtConfig {
            sign_method: sign_method.ok_or(AuthTokenError::Missing("sign-method"))?,
            public_key,
            private_key,
            ttl,
        }))
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenKind::Simple => f.write_str("simple"),
            TokenKind::Jwt(jwt) => write!(f, "jwt,sign-method={:?}", jwt.sign_method.algorithm),
        }
    }
}

/// A duration as Go writes it, of whole numbers: `1h30m`, `300s`, `500ms`. None if it is not, or is 0.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    (!total.is_zero()).then_some(total)
}

const DEFAULT_JWT_TTL: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let read = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("300s"), Some(300_000));
        assert_eq!(read("1500ms"), Some(1500));
        for wrong in [
            "",
            "5",
            "m",
            "0s",
            "5x",
            "-5s",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn etcds_option_is_read() {
        let kind: TokenKind = "jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS512,ttl=10m"
            .parse()
            .unwrap();
        let TokenKind::Jwt(jwt) = kind else {
            panic!("it says jwt")
        };
        assert_eq!(jwt.sign_method.algorithm, Algorithm::RS512);
        assert_eq!(jwt.ttl, Duration::from_secs(600));
        assert_eq!(jwt.private_key, Some(PathBuf::from("a.key")));
        assert_eq!("simple".parse(), Ok(TokenKind::Simple));
    }

    #[test]
    fn what_is_wrong_with_the_option_is_named() {
        let error = |text: &str| text.parse::<TokenKind>().unwrap_err();
        for text in ["", "none", "simple,ttl=5m", "jw"] {
            assert_eq!(error(text), AuthTokenError::UnknownKind(text.to_owned()));
        }
        assert_eq!(
            error("jwt,sign-method=none,pub-key=a"),
            AuthTokenError::UnknownSignMethod("none".to_owned())
        );
        assert_eq!(error("jwt,pub-key=a"), AuthTokenError::Missing("sign-method"));
        assert_eq!(
            error("jwt,sign-method=RS256"),
            AuthTokenError::Missing("pub-key or priv-key")
        );
        assert_eq!(
            error("jwt,sign-method=RS256,pubkey=a"),
            AuthTokenError::UnknownOption("pubkey=a".to_owned())
        );
        assert_eq!(
            error("jwt,sign-method=RS256,pub-key=a,ttl=0s"),
            AuthTokenError::Ttl("0s".to_owned())
        );
    }
}
