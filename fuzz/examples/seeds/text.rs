//! Texts of each kind, right and wrong.

use crate::tagged;

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        (0, "http://127.0.0.1:2379"),
        (0, "https://[::1]:2380/"),
        (0, "http://node-1:80"),
        (0, "http://[[::1]]:1"),
        (1, "a=http://10.0.0.1:2380,a=https://b:1, b=http://[fe80::1]:2380"),
        (2, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"),
        (2, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        (3, "TLS1.3"),
        (4, "simple"),
        (
            4,
            "jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS512,ttl=1h30m500ms",
        ),
        (4, "jwt,sign-method=EdDSA,priv-key=é,ttl=18446744073709551615h"),
        (5, "existing"),
    ];
    texts.into_iter().map(|(tag, text)| tagged(tag, text)).collect()
}
