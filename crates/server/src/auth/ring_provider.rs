//! The signatures of tokens by `ring`, the library that the rest of the program has its cryptography from.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature as ring_signature;
use ring::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair};
use ring::signature::{RsaParameters, VerificationAlgorithm};

use ::signature::{Error as Failed, Signer, Verifier};

/// Has `jsonwebtoken` use this. Once in a process is enough.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory,
        verifier_factory,
        // For keys in JSON, which are not read here.
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Another test of the same process has done so already.
    let _ = PROVIDER.install_default();
}

fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    let how = scheme(*algorithm)?;
    expect_family(&how, key.family())?;
    let bytes = key.as_bytes();
    let invalid = |_| Error::from(ErrorKind::InvalidKeyFormat);
    let secret = match how {
        Scheme::Hmac(algorithm) => Secret::Hmac(hmac::Key::new(algorithm, bytes)),
        Scheme::Rsa(_, padding) => Secret::Rsa(RsaKeyPair::from_der(bytes).map_err(invalid)?, padding),
        Scheme::Ecdsa(_, signing) => {
            Secret::Ecdsa(EcdsaKeyPair::from_pkcs8(signing, bytes, &SystemRandom::new()).map_err(invalid)?)
        }
        Scheme::Ed => Secret::Ed(Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(invalid)?),
    };
    Ok(Box::new(Signing {
        algorithm: *algorithm,
        secret,
    }))
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let how = scheme(*algorithm)?;
    expect_family(&how, key.family())?;
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => Ok(Box::new(Checking {
            algorithm: *algorithm,
            scheme: how,
            key: bytes.clone(),
        })),
        DecodingKeyKind::RsaModulusExponent { .. } => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

/// What `ring` calls an algorithm.
enum Scheme {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters, &'static dyn RsaEncoding),
    Ecdsa(&'static dyn VerificationAlgorithm, &'static EcdsaSigningAlgorithm),
    Ed,
}

fn scheme(algorithm: Algorithm) -> Result<Scheme, Error> {
    use ring_signature as s;
    Ok(match algorithm {
        Algorithm::HS256 => Scheme::Hmac(hmac::HMAC_SHA256),
        Algorithm::HS384 => Scheme::Hmac(hmac::HMAC_SHA384),
        Algorithm::HS512 => Scheme::Hmac(hmac::HMAC_SHA512),
        Algorithm::RS256 => Scheme::Rsa(&s::RSA_PKCS1_2048_8192_SHA256, &s::RSA_PKCS1_SHA256),
        Algorithm::RS384 => Scheme::Rsa(&s::RSA_PKCS1_2048_8192_SHA384, &s::RSA_PKCS1_SHA384),
        Algorithm::RS512 => Scheme::Rsa(&s::RSA_PKCS1_2048_8192_SHA512, &s::RSA_PKCS1_SHA512),
        Algorithm::PS256 => Scheme::Rsa(&s::RSA_PSS_2048_8192_SHA256, &s::RSA_PSS_SHA256),
        Algorithm::PS384 => Scheme::Rsa(&s::RSA_PSS_2048_8192_SHA384, &s::RSA_PSS_SHA384),
        Algorithm::PS512 => Scheme::Rsa(&s::RSA_PSS_2048_8192_SHA512, &s::RSA_PSS_SHA512),
        Algorithm::ES256 => Scheme::Ecdsa(&s::ECDSA_P256_SHA256_FIXED, &s::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => Scheme::Ecdsa(&s::ECDSA_P384_SHA384_FIXED, &s::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDSA => Scheme::Ed,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    })
}

/// A key of another kind would be read as something it is not.
fn expect_family(scheme: &Scheme, family: AlgorithmFamily) -> Result<(), Error> {
    let expected = match scheme {
        Scheme::Hmac(_) => AlgorithmFamily::Hmac,
        Scheme::Rsa(..) => AlgorithmFamily::Rsa,
        Scheme::Ecdsa(..) => AlgorithmFamily::Ec,
        Scheme::Ed => AlgorithmFamily::Ed,
    };
    match family == expected {
        true => Ok(()),
        false => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

struct Signing {
    algorithm: Algorithm,
    secret: Secret,
}

enum Secret {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let random = SystemRandom::new();
        let failed = |_| Failed::new();
        match &self.secret {
            Secret::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Secret::Rsa(key, padding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*padding, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Secret::Ecdsa(key) => Ok(key.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Secret::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Checking {
    algorithm: Algorithm,
    scheme: Scheme,
    key: Vec<u8>,
}

impl Verifier<Vec<u8>> for Checking {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Failed> {
        let check = |how: &'static dyn VerificationAlgorithm| {
            ring_signature::UnparsedPublicKey::new(how, &self.key).verify(message, signature)
        };
        match self.scheme {
            Scheme::Hmac(algorithm) => {
                hmac::verify(&hmac::Key::new(algorithm, &self.key), message, signature)
            }
            Scheme::Rsa(parameters, _) => check(parameters),
            Scheme::Ecdsa(parameters, _) => check(parameters),
            Scheme::Ed => check(&ring_signature::ED25519),
        }
        .map_err(|_| Failed::new())
    }
}

impl JwtVerifier for Checking {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
