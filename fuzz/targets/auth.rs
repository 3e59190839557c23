//! What says who a caller is: tokens of both kinds and certificates, in any bytes. A signed token stands for
//! nobody but whom it names.
//!
//! The input is a byte that says what it is, and the rest of it. What is to be signed is signed here, so that
//! the signature does not hide what lies behind it.

#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use quorate_server::JwtConfig;
use quorate_server::fuzzing::{JwtReader, simple_token};
use quorate_tls::PeerCertificate;
use ring::hmac;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    match form % 5 {
        0 => shown("token", rest),
        1 => shown("authorization", rest),
        2 => signed(br#"{"typ":"JWT","alg":"HS256"}"#, rest),
        3 => {
            let middle = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let (head, claims) = rest.split_at(middle);
            signed(head, claims.get(1..).unwrap_or_default());
        }
        _ => certificate(rest),
    }
});

fn shown(name: &'static str, value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value)]);
    let _ = simple_token(&headers);
    for (reader, _) in READERS.iter() {
        let _ = reader.caller(&headers);
    }
}

fn signed(head: &[u8], claims: &[u8]) {
    let statement = format!("{}.{}", base64(head), base64(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), statement.as_bytes());
    let token = format!("{statement}.{}", base64(signature.as_ref()));
    let value = HeaderValue::from_str(&token).expect("it is of letters, digits and three signs");
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("token"), value)]);
    assert_eq!(simple_token(&headers), None);
    for (reader, method) in READERS.iter() {
        let Some(caller) = reader.caller(&headers) else {
            continue;
        };
        let head: serde_json::Value = serde_json::from_slice(head).expect("a head is JSON");
        assert_eq!((*method, &head["alg"]), ("HS256", &"HS256".into()));
        let claims: serde_json::Value = serde_json::from_slice(claims).expect("claims are JSON");
        assert_eq!(claims["username"], caller.user.as_str());
        assert_eq!(claims["revision"], caller.revision.0);
    }
}

fn certificate(der: &[u8]) {
    let certificate = PeerCertificate::unchecked(der.to_vec());
    assert_ne!(certificate.common_name(), Some(String::new()));
    for host in ["localhost", "127.0.0.1", "::1", ""] {
        let _ = certificate.is_for(host);
    }
}

/// Those that sign in different ways.
static READERS: LazyLock<Vec<(JwtReader, &str)>> = LazyLock::new(|| {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/src/auth/testdata");
    let secret = tempfile::NamedTempFile::new().expect("there is room for a secret");
    std::fs::write(&secret, SECRET).expect("there is room for a secret");
    let secret = secret.path().to_owned();
    let read = |method: &'static str, public: PathBuf| {
        let config = JwtConfig {
            sign_method: method.parse().expect("it is known"),
            public_key: Some(public.clone()),
            private_key: (method == "HS256").then_some(public),
            ttl: Duration::from_secs(60),
        };
        (JwtReader::load(&config).expect("the keys are good"), method)
    };
    vec![
        read("HS256", secret),
        read("RS256", keys.join("rsa.pub")),
        read("ES256", keys.join("ec.pub")),
        read("EdDSA", keys.join("ed.pub")),
    ]
});

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for place in 0..=group.len() {
            let digit = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

const SECRET: &[u8] = b"a secret of the fuzz target: 32+";
