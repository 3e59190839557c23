//! The blocks of etcd's configuration file, and which flags the keys in them are.

/// A block of etcd's, and which flags the keys in it are.
pub(super) struct Block {
    pub(super) key: &'static str,
    pub(super) keys: &'static [(&'static str, &'static str)],
}

pub(super) const BLOCKS: [Block; 4] = [
    Block {
        key: "socket-options",
        keys: &[
            ("reuse-port", "socket-reuse-port"),
            ("ReusePort", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
            ("ReuseAddress", "socket-reuse-address"),
        ],
    },
    Block {
        key: "discovery-config",
        keys: &[
            ("endpoints", "discovery-endpoints"),
            ("discovery-endpoints", "discovery-endpoints"),
            ("token", "discovery-token"),
            ("discovery-token", "discovery-token"),
        ],
    },
    Block {
        key: "client-transport-security",
        keys: &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("crl-file", "client-crl-file"),
            ("allowed-cn", "client-cert-allowed-cn"),
            ("allowed-cns", "client-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("allowed-hostnames", "client-cert-allowed-hostname"),
        ],
    },
    Block {
        key: "peer-transport-security",
        keys: &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-cns", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("allowed-hostnames", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    },
];
