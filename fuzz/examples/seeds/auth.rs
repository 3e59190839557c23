//! Tokens of both kinds, claims to be signed, and certificates.

use crate::tagged;
use quorate_tls::testing::{Authority, Leaf};

pub fn seeds() -> Vec<Vec<u8>> {
    let claims = r#"{"username":"alice","revision":7,"exp":4102444800}"#;
    let mut seeds = vec![
        tagged(0, "0123456789abcdef".repeat(4)),
        tagged(1, format!("Bearer {}", "0123456789abcdef".repeat(4))),
        tagged(
            1,
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6ImEiLCJyZXZpc2lvbiI6MX0.",
        ),
        tagged(2, claims),
        tagged(
            2,
            r#"{"username":"","revision":-1,"exp":1e400,"nbf":"x","aud":["a"]}"#,
        ),
    ];
    for algorithm in ["none", "HS256", "HS512", "RS256", "ES256", "EdDSA"] {
        seeds.push(tagged(
            3,
            format!("{{\"alg\":\"{algorithm}\",\"crit\":[\"b64\"]}}\n{claims}"),
        ));
    }
    seeds.extend(certificates().into_iter().map(|der| tagged(4, der)));
    seeds
}

fn certificates() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("there is room for certificates");
    let authority = Authority::new("authority");
    let leaves = [
        Leaf::named("alice"),
        Leaf::named("alice").and_named("root"),
        Leaf::for_hosts(["localhost", "127.0.0.1", "::1"]),
    ];
    let files = leaves.iter().enumerate().map(|(number, leaf)| {
        let name = number.to_string();
        authority.issue(directory.path(), &name, leaf);
        directory.path().join(format!("{name}.pem"))
    });
    files
        .map(|file| der(&std::fs::read_to_string(file).expect("it was written")))
        .collect()
}

/// What a file of PEM holds.
fn der(pem: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let digits: Vec<usize> = lines
        .flat_map(str::chars)
        .filter_map(|digit| DIGITS.find(digit))
        .collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend(&(bits as u32).to_be_bytes()[1..group.len()]);
    }
    bytes
}
