//! JSON web tokens: a user and a revision of users and roles, signed.
//!
//! A token is void once users or roles have changed, since its revision has passed; so nothing need be kept
//! of it to take it back.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quorate_kv::{AuthRevision, Credentials, UserName};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::config::{AuthTokenError, Family, JwtConfig, SignMethod};
use super::ring_provider;
use super::token::Token;

/// Signs and checks tokens.
pub(crate) struct Jwt {
    algorithm: Algorithm,
    /// None: this member makes no tokens.
    signing: Option<EncodingKey>,
    checking: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

/// etcd's claims.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    /// Seconds since 1970.
    exp: u64,
}

impl Jwt {
    /// With the keys that the configuration names.
    pub(crate) fn load(config: &JwtConfig) -> Result<Jwt, AuthTokenError> {
        ring_provider::install();
        let method = config.sign_method;
        let private = config.private_key.as_deref().map(read).transpose()?;
        let public = config.public_key.as_deref().map(read).transpose()?;
        let signing = private.as_ref().map(|key| key.signing(method)).transpose()?;
        let checking = match (&public, &private) {
            // A secret has no public half.
            (_, Some(private)) if method.family() == Family::Secret => private.checking(method)?,
            (Some(public), _) => public.checking(method)?,
            (None, _) => return Err(AuthTokenError::Missing("pub-key")),
        };
        let mut validation = Validation::new(method.algorithm());
        validation.leeway = 0;
        let jwt = Jwt {
            algorithm: method.algorithm(),
            signing,
            checking,
            validation,
            ttl: config.ttl,
        };
        jwt.try_out(config)?;
        Ok(jwt)
    }

    /// A token for a user, as known at a revision.
    pub(crate) fn sign(&self, credentials: &Credentials) -> Result<Token, Status> {
        let key = self.signing.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "quorate: this member has no private key to sign tokens with; ask another",
            )
        })?;
        self.sign_with(key, credentials)
            .map_err(|error| Status::internal(format!("quorate: a token cannot be signed: {error}")))
    }

    /// Whom a token stands for; none if it is not valid.
    pub(crate) fn check(&self, token: &Token) -> Option<Credentials> {
        let token = token.clone().expose();
        let data = jsonwebtoken::decode::<Claims>(&token, &self.checking, &self.validation).ok()?;
        Some(Credentials {
            user: UserName::parse(data.claims.username).ok()?,
            revision: AuthRevision(data.claims.revision),
        })
    }

    fn sign_with(
        &self,
        key: &EncodingKey,
        credentials: &Credentials,
    ) -> Result<Token, jsonwebtoken::errors::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            username: credentials.user.to_string(),
            revision: credentials.revision.0,
            exp: now.saturating_add(self.ttl).as_secs(),
        };
        let token = jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key)?;
        Ok(Token::signed(token))
    }

    /// Keys that do not belong together are found out at the start, and not by every client.
    fn try_out(&self, config: &JwtConfig) -> Result<(), AuthTokenError> {
        let Some(key) = &self.signing else { return Ok(()) };
        let problem = |problem: String| AuthTokenError::Key {
            path: path_text(config.private_key.as_deref()),
            problem,
        };
        let nobody = Credentials {
            user: UserName::root(),
            revision: AuthRevision(0),
        };
        let token = self
            .sign_with(key, &nobody)
            .map_err(|error| problem(format!("it cannot sign: {error}")))?;
        match self.check(&token) {
            Some(_) => Ok(()),
            None => Err(problem(
                "it does not belong to pub-key, or ttl is below a second".to_owned(),
            )),
        }
    }
}

fn path_text(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// The file of a key.
struct KeyFile {
    path: String,
    bytes: Vec<u8>,
}

fn read(path: &Path) -> Result<KeyFile, AuthTokenError> {
    let path_text = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok(KeyFile {
            path: path_text,
            bytes,
        }),
        Err(error) => Err(AuthTokenError::Key {
            path: path_text,
            problem: error.to_string(),
        }),
    }
}

impl KeyFile {
    fn signing(&self, method: SignMethod) -> Result<EncodingKey, AuthTokenError> {
        self.check_length(method)?;
        self.of(match method.family() {
            Family::Secret => Ok(EncodingKey::from_secret(&self.bytes)),
            Family::Rsa => EncodingKey::from_rsa_pem(&self.bytes),
            Family::Ec => EncodingKey::from_ec_pem(&self.bytes),
            Family::Ed => EncodingKey::from_ed_pem(&self.bytes),
        })
    }

    /// A secret that can be guessed lets anybody make tokens.
    fn check_length(&self, method: SignMethod) -> Result<(), AuthTokenError> {
        match method.family() {
            Family::Secret if self.bytes.len() < MIN_SECRET => Err(AuthTokenError::Key {
                path: self.path.clone(),
                problem: format!("a secret needs at least {MIN_SECRET} bytes"),
            }),
            Family::Secret | Family::Rsa | Family::Ec | Family::Ed => Ok(()),
        }
    }

    fn checking(&self, method: SignMethod) -> Result<DecodingKey, AuthTokenError> {
        self.of(match method.family() {
            Family::Secret => Ok(DecodingKey::from_secret(&self.bytes)),
            Family::Rsa => DecodingKey::from_rsa_pem(&self.bytes),
            Family::Ec => DecodingKey::from_ec_pem(&self.bytes),
            Family::Ed => DecodingKey::from_ed_pem(&self.bytes),
        })
    }

    fn of<T>(&self, key: Result<T, jsonwebtoken::errors::Error>) -> Result<T, AuthTokenError> {
        key.map_err(|error| AuthTokenError::Key {
            path: self.path.clone(),
            problem: error.to_string(),
        })
    }
}

const MIN_SECRET: usize = 32;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Keys for each family, of which nothing else is signed.
    const RSA: (&str, &str) = (include_str!("testdata/rsa.key"), include_str!("testdata/rsa.pub"));
    const EC: (&str, &str) = (include_str!("testdata/ec.key"), include_str!("testdata/ec.pub"));
    const ED: (&str, &str) = (include_str!("testdata/ed.key"), include_str!("testdata/ed.pub"));

    struct Keys(tempfile::TempDir);

    impl Keys {
        fn new((private, public): (&str, &str)) -> Keys {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("private"), private).unwrap();
            std::fs::write(dir.path().join("public"), public).unwrap();
            Keys(dir)
        }

        fn path(&self, name: &str) -> Option<PathBuf> {
            Some(self.0.path().join(name))
        }

        fn config(&self, method: &str) -> JwtConfig {
            JwtConfig {
                sign_method: method.parse().unwrap(),
                public_key: self.path("public"),
                private_key: self.path("private"),
                ttl: Duration::from_secs(60),
            }
        }
    }

    fn alice() -> Credentials {
        Credentials {
            user: UserName::parse("alice").unwrap(),
            revision: AuthRevision(7),
        }
    }

    #[test]
    fn each_method_knows_its_own_tokens_and_no_others() {
        let secret = "s".repeat(32);
        let families = [
            (vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], RSA),
            (vec!["ES256"], EC),
            (vec!["EdDSA"], ED),
            (
                vec!["HS256", "HS384", "HS512"],
                (secret.as_str(), secret.as_str()),
            ),
        ];
        let mut all = Vec::new();
        for (methods, keys) in families {
            let keys = Keys::new(keys);
            for method in methods {
                let jwt = Jwt::load(&keys.config(method)).unwrap();
                all.push((method, jwt.sign(&alice()).unwrap(), jwt));
            }
        }
        for (made_by, token, _) in &all {
            for (checked_by, _, jwt) in &all {
                let expected = (made_by == checked_by).then(alice);
                assert_eq!(jwt.check(token), expected, "{made_by} by {checked_by}");
            }
        }
    }

    #[test]
    fn a_token_that_has_run_out_is_not_valid() {
        let secret = "s".repeat(32);
        let keys = Keys::new((&secret, &secret));
        let mut jwt = Jwt::load(&keys.config("HS256")).unwrap();
        assert!(jwt.check(&jwt.sign(&alice()).unwrap()).is_some());
        jwt.ttl = Duration::ZERO;
        let token = jwt.sign(&alice()).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(jwt.check(&token), None);
    }

    #[test]
    fn keys_that_cannot_work_are_named_at_the_start() {
        let problem = |config: &JwtConfig| Jwt::load(config).err().map(|error| error.to_string());
        let keys = Keys::new((RSA.0, EC.1));
        assert!(
            problem(&keys.config("RS256")).is_some(),
            "the halves are of two keys"
        );
        assert!(problem(&keys.config("HS256")).is_none(), "any file is a secret");
        let short = Keys::new(("short", "short"));
        let text = problem(&short.config("HS256")).unwrap();
        assert!(text.contains("32 bytes"), "{text}");
        let mut missing = keys.config("RS256");
        missing.private_key = keys.path("nowhere");
        let text = problem(&missing).unwrap();
        assert!(text.contains("nowhere"), "{text}");
    }

    #[test]
    fn a_member_without_a_private_key_checks_only() {
        let keys = Keys::new(RSA);
        let token = Jwt::load(&keys.config("RS256")).unwrap().sign(&alice()).unwrap();
        let mut config = keys.config("RS256");
        config.private_key = None;
        let jwt = Jwt::load(&config).unwrap();
        assert_eq!(jwt.check(&token), Some(alice()));
        assert!(jwt.sign(&alice()).is_err());
    }
}
