//! Locks and elections: several requests in a row, such that none of them waits for another.

use super::Request;
use crate::rng::Rng;

/// What is asked here.
pub(super) const PATHS: &[&str] = &[
    "/v3/lock/lock",
    "/v3/lock/unlock",
    "/v3/election/campaign",
    "/v3/election/proclaim",
    "/v3/election/leader",
    "/v3/election/resign",
];

/// A lock that is taken and given up, or a term of office, or calls that are wrong.
pub(super) fn draw(rng: &mut Rng) -> Vec<Request> {
    match rng.below(5) {
        0 | 1 => lock(rng),
        2 | 3 => office(rng),
        _ => vec![wrong(rng)],
    }
}

fn lock(rng: &mut Rng) -> Vec<Request> {
    let name = name(rng);
    let lease = lease(rng);
    let take = || post("lock/lock", format!("{{\"name\":\"{name}\"{lease}}}"));
    let mut requests = vec![grant(), take()];
    if lease == OF_PICKED && rng.one_in(2) {
        // Whoever has it has it at once.
        requests.push(take());
    }
    requests.push(look());
    requests.push(post("lock/unlock", "{\"key\":\"$lock\"}".to_owned()));
    if rng.one_in(2) {
        requests.push(post("lock/unlock", "{\"key\":\"$lock\"}".to_owned()));
    }
    requests.push(look());
    requests.push(revoke());
    requests
}

fn office(rng: &mut Rng) -> Vec<Request> {
    let name = name(rng);
    let lease = lease(rng);
    let stand = |value: &str| {
        let body = format!("{{\"name\":\"{name}\",\"value\":\"{value}\"{lease}}}");
        post("election/campaign", body)
    };
    let leader = || post("election/leader", format!("{{\"name\":\"{name}\"}}"));
    let proclaim = |value: &str| {
        let body = format!("{{\"leader\":$leader,\"value\":\"{value}\"}}");
        post("election/proclaim", body)
    };
    let mut requests = vec![grant(), leader(), stand("MQ=="), leader()];
    if lease == OF_PICKED && rng.one_in(2) {
        requests.extend([stand("Mg=="), leader()]);
    }
    requests.extend([proclaim("Mw=="), leader(), look()]);
    match rng.below(3) {
        0 => requests.push(revoke()),
        _ => requests.push(post("election/resign", "{\"leader\":$leader}".to_owned())),
    }
    requests.extend([
        leader(),
        proclaim("NA=="),
        post("election/resign", "{\"leader\":$leader}".to_owned()),
        look(),
        revoke(),
    ]);
    requests
}

fn wrong(rng: &mut Rng) -> Request {
    let path = rng.pick(PATHS).trim_start_matches("/v3/");
    let waits = matches!(path, "lock/lock" | "election/campaign");
    let bodies: &[&str] = match waits {
        // A lease that there is not, or a body that is none.
        true => &[
            "{\"name\":\"YQ==\",\"lease\":\"4343\"}",
            "{\"name\":5}",
            "{\"name\":\"YQ==\",\"lease\":-1}",
            "[",
        ],
        // A leader without a lease is not drawn: etcd grants one, which nobody asked for.
        false => &[
            "{}",
            "",
            "{\"key\":\"\"}",
            "{\"key\":\"bm9uZQ==\"}",
            "{\"leader\":null}",
            "{\"leader\":{\"name\":\"YQ==\",\"key\":\"bm9uZQ==\",\"rev\":\"3\",\"lease\":\"4343\"},\"value\":\"MQ==\"}",
            "{\"leader\":{\"name\":\"YQ==\",\"key\":\"\",\"rev\":\"0\",\"lease\":\"4343\"}}",
            "{\"name\":\"\"}",
            "{\"name\":\"bm9uZQ==\"}",
            "{\"leader\":[]}",
            "{\"name\":{}}",
        ],
    };
    post(path, rng.pick(bodies).to_owned())
}

fn name(rng: &mut Rng) -> &'static str {
    // "lock", "a/b", and a name that ends as its keys go on.
    rng.pick(&["bG9jaw==", "YS9i", "ZW5kLw=="])
}

/// A lease that was granted before, or one that the server picks.
fn lease(rng: &mut Rng) -> &'static str {
    rng.pick(&[OF_PICKED, OF_PICKED, "", ",\"lease\":0"])
}

const OF_PICKED: &str = ",\"lease\":\"$picked\"";

fn grant() -> Request {
    post("lease/grant", "{\"TTL\":600}".to_owned())
}

fn revoke() -> Request {
    post("lease/revoke", "{\"ID\":\"$picked\"}".to_owned())
}

/// All keys that there are, as queues are laid out in them.
fn look() -> Request {
    post("kv/range", "{\"key\":\"AA==\",\"range_end\":\"AA==\"}".to_owned())
}

fn post(path: &str, body: String) -> Request {
    Request::post(path, None, body)
}
