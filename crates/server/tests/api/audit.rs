//! The audit log: who called what, on which keys, how it ended; and what it never says.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};

use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::harness::{Cluster, put, range};
use crate::users::{User, cluster, guard};

/// What stands for values, passwords and tokens in this file: no line of the log may have it.
const SECRET: &str = "x7-secret-x7";

/// What the process has logged: it has one log, which all of its tests write to.
struct Log {
    /// Lines for auditors.
    audit: Mutex<Vec<String>>,
    /// Lines of whatever kind that contain [`SECRET`].
    leaks: Mutex<Vec<String>>,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let log = LOG.get_or_init(|| Log {
        audit: Mutex::default(),
        leaks: Mutex::default(),
    });
    STARTED.get_or_init(|| tracing::subscriber::set_global_default(log).expect("there is no other"));
    log
}

impl Subscriber for &'static Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("quorate")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let Line(line) = line;
        if line.contains(SECRET) {
            self.leaks.lock().unwrap().push(line.clone());
        }
        if event.metadata().target() == "quorate::audit" {
            self.audit.lock().unwrap().push(line);
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

/// The lines that have all of these, once there is one.
async fn lines(parts: &[&str]) -> Vec<String> {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let found: Vec<String> = {
            let audit = log().audit.lock().unwrap();
            let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
            audit.iter().filter(has_all).cloned().collect()
        };
        if !found.is_empty() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "no line has {parts:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The one line that has all of these.
async fn line(parts: &[&str]) -> String {
    let mut found = lines(parts).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn check_no_leak() {
    let leaks = log().leaks.lock().unwrap();
    assert!(leaks.is_empty(), "{leaks:?}");
}

fn create(key: &str) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: "z".into(),
            ..Default::default()
        })),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_calls_are_logged_with_an_address_while_authentication_is_off() {
    log();
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.put("audit-off", SECRET).await;
    client.range(range("audit-off-a", "audit-off-b")).await;
    let done = line(&["KV/Put", "put audit-off\""]).await;
    assert!(done.starts_with("DEBUG"), "{done}");
    for part in [
        "user=\"-\"",
        "certificate=\"-\"",
        "client=\"127.0.0.1:",
        "call=\"/etcdserverpb.KV/Put\"",
        "result=Ok",
    ] {
        assert!(done.contains(part), "{part}: {done}");
    }
    line(&["KV/Range", "get [audit-off-a to audit-off-b)"]).await;

    let granted = client.grant(60, 7_071_077).await;
    line(&["LeaseGrant", "lease ", "result=Ok", &format!("{:x}", granted.id)]).await;
    let _watch = client
        .watch
        .watch(futures::stream::iter([create("audit-off-w")]))
        .await
        .unwrap();
    line(&[
        "Watch/Watch create",
        "[audit-off-w to z)",
        "client=\"127.0.0.1:",
        "result=Ok",
    ])
    .await;
    check_no_leak();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_or_is_root_is_logged_as_news() {
    log();
    let cluster = cluster(1).await;
    guard(&cluster).await;
    let mut root = User::named(&cluster, 0, "root").await;
    let mut alice = User::named(&cluster, 0, "alice").await;
    root.user_add_with("audit-user", SECRET).await.unwrap();
    let added = line(&["UserAdd", "user audit-user"]).await;
    assert!(
        added.starts_with("INFO") && added.contains("user=\"root\""),
        "{added}"
    );

    alice.put_value("a/audit-allowed", SECRET).await.unwrap();
    let allowed = line(&["put a/audit-allowed", "result=Ok"]).await;
    assert!(
        allowed.starts_with("DEBUG") && allowed.contains("user=\"alice\""),
        "{allowed}"
    );

    alice.put_value("audit-denied", SECRET).await.unwrap_err();
    let denied = line(&["put audit-denied", "result=PermissionDenied"]).await;
    assert!(
        denied.starts_with("INFO") && denied.contains("user=\"alice\""),
        "{denied}"
    );

    let mut nobody = cluster.client(0);
    nobody.kv.put(put("audit-nobody", SECRET)).await.unwrap_err();
    let refused = lines(&["KV/Put", "user=\"?\"", "result=InvalidArgument"]).await;
    assert!(refused.iter().all(|line| line.starts_with("INFO")), "{refused:?}");

    alice.log_in("audit-login", SECRET).await.unwrap_err();
    let failed = line(&["Authenticate", "user=\"audit-login\""]).await;
    assert!(
        failed.starts_with("INFO") && failed.contains("client=\"127.0.0.1:"),
        "{failed}"
    );
    let token = root.token.clone().unwrap();
    for line in log().audit.lock().unwrap().iter() {
        assert!(!line.contains(&token), "{line}");
    }
    check_no_leak();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_does_not_say_where_a_client_is() {
    log();
    let cluster = Cluster::start(1).await;
    let mut request = tonic::Request::new(put("audit-forwarded", "1"));
    for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        request.metadata_mut().insert(name, "10.9.8.7".parse().unwrap());
    }
    cluster.client(0).kv.put(request).await.unwrap();
    let line = line(&["put audit-forwarded"]).await;
    assert!(
        line.contains("client=\"127.0.0.1:") && !line.contains("10.9.8.7"),
        "{line}"
    );
}
