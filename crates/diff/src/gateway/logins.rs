//! Authentication, switched on for a few requests: by whoever has logged in, by a forger, and by nobody. Each
//! method decides by itself who may call it, which `quorate-diff --auth` compares; here it is how a token comes to
//! it, and how it is refused.

use super::Request;
use crate::rng::Rng;

/// From the first user to the last.
pub(super) fn draw(rng: &mut Rng) -> Vec<Request> {
    const ROOT: &str = r#"{"name":"root","password":"x"}"#;
    // While there is no space, etcd lets anybody delete.
    let mut requests = ["0", "7", r#""$member""#]
        .map(|member| {
            let body = format!(r#"{{"action":"DEACTIVATE","alarm":"NOSPACE","memberID":{member}}}"#);
            post("maintenance/alarm", &body, None)
        })
        .to_vec();
    requests.extend([
        post("auth/user/add", ROOT, None),
        post("auth/role/add", r#"{"name":"root"}"#, None),
        post("auth/user/grant", r#"{"user":"root","role":"root"}"#, None),
        post("auth/enable", "{}", None),
        post("auth/authenticate", ROOT, None),
    ]);
    requests.extend(rng.some(3, 9, one));
    requests.extend([
        post("auth/disable", "{}", TOKEN),
        post("auth/user/delete", r#"{"name":"root"}"#, None),
        post("auth/role/delete", r#"{"name":"root"}"#, None),
    ]);
    requests
}

fn one(rng: &mut Rng) -> Request {
    let (path, body) = rng.pick(&[
        ("kv/put", "{\"key\":\"YQ==\",\"value\":\"Yg==\"}"),
        ("kv/range", "{\"key\":\"YQ==\"}"),
        ("kv/range", "{\"key\":5}"),
        ("kv/deleterange", "{\"key\":\"YQ==\"}"),
        ("auth/user/list", "{}"),
        ("auth/role/list", ""),
        ("auth/authenticate", "{\"name\":\"root\",\"password\":\"wrong\"}"),
        ("auth/authenticate", "{\"name\":\"root\",\"password\":\"x\"}"),
        ("auth/user/delete", "{\"name\":\"root\"}"),
        ("lock/unlock", "{\"key\":\"bm9uZQ==\"}"),
        ("election/leader", "{\"name\":\"bm9uZQ==\"}"),
    ]);
    post(path, body, rng.pick(&[TOKEN, TOKEN, None, Some("forged.7")]))
}

fn post(path: &str, body: &str, token: Option<&'static str>) -> Request {
    Request::post(path, token, body.to_owned())
}

const TOKEN: Option<&str> = Some("$token");
