//! Endpoints by the SRV records of a domain (RFC 2782), as etcdctl's `--discovery-srv` finds them.
//!
//! - `_etcd-client-ssl._tcp` names those that speak TLS, `_etcd-client._tcp` those that do not.
//! - The name servers are those of `/etc/resolv.conf`, asked one after the other over UDP (RFC 1035). An answer that
//!   does not fit into a datagram is refused: it would have some twenty endpoints or more.

use super::failure::Failure;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The endpoints of a domain, with their schemes; `name` is added to the names of the services.
///
/// # Errors
///
/// If there are none.
pub(super) async fn endpoints(domain: &str, name: &str) -> Result<Vec<String>, Failure> {
    let servers = servers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (scheme, service) in [("https", "etcd-client-ssl"), ("http", "etcd-client")] {
        let service = match name {
            "" => service.to_owned(),
            name => format!("{service}-{name}"),
        };
        let owner = format!("_{service}._tcp.{}", domain.trim_end_matches('.'));
        match look_up(&owner, &servers).await {
            Ok(records) => {
                found.extend(
                    records
                        .iter()
                        .map(|record| format!("{scheme}://{}:{}", record.target, record.port)),
                );
            }
            Err(problem) => problems.push(format!("{owner}: {problem}")),
        }
    }
    match found.is_empty() {
        true => Err(Failure::error(format!(
            "dns lookup errors: {}",
            problems.join(" and ")
        ))),
        false => Ok(found),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    target: String,
    port: u16,
}

/// The records of a name, those to use first at the front; never none.
async fn look_up(name: &str, servers: &[SocketAddr]) -> Result<Vec<Record>, String> {
    let id = RandomState::new().hash_one(name).to_le_bytes();
    let query = query([id[0], id[1]], name).ok_or("it is no name of a domain")?;
    let mut problem = String::new();
    for server in servers {
        let answer = timeout(PATIENCE, ask(&query, *server)).await;
        match answer.unwrap_or_else(|_| Err(format!("{server} does not answer"))) {
            Ok(answer) => {
                let mut records = records(&query, &answer)?;
                records.sort_by_key(|record| record.priority);
                return Ok(records);
            }
            Err(found) => problem = found,
        }
    }
    Err(problem)
}

async fn ask(query: &[u8], server: SocketAddr) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot ask {server}: {error}");
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(cannot)?;
    socket.connect(server).await.map_err(cannot)?;
    socket.send(query).await.map_err(cannot)?;
    let mut answer = vec![0; MAX_BYTES];
    loop {
        let length = socket.recv(&mut answer).await.map_err(cannot)?;
        // What is not the answer to this query is somebody else's.
        if length >= HEADER_BYTES && answer[..2] == query[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// A question for the SRV records of a name; none if it is no name.
fn query(id: [u8; 2], name: &str) -> Option<Vec<u8>> {
    // A query that asks for recursion, with one question.
    let mut query = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        query.push(length);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, SRV, 0, INTERNET]);
    (name.len() < 254).then_some(query)
}

/// The records in the answer to a query; never none.
fn records(query: &[u8], answer: &[u8]) -> Result<Vec<Record>, String> {
    let damaged = || "the name server's answer makes no sense".to_owned();
    let is_truncated = answer.get(2).ok_or_else(damaged)? & 2 != 0;
    let code = answer.get(3).ok_or_else(damaged)? & 15;
    match code {
        0 if is_truncated => return Err("there are too many records".to_owned()),
        0 => {}
        3 => return Err("no such host".to_owned()),
        code => return Err(format!("the name server refuses with code {code}")),
    }
    let is_our_question = answer
        .get(HEADER_BYTES..query.len())
        .is_some_and(|question| question.eq_ignore_ascii_case(&query[HEADER_BYTES..]));
    if !is_our_question {
        return Err(damaged());
    }
    let count = number(answer, 6).ok_or_else(damaged)?;
    let mut at = query.len();
    let mut records = Vec::new();
    for _ in 0..count {
        let (record, next) = record(answer, at).ok_or_else(damaged)?;
        records.extend(record);
        at = next;
    }
    // A target that is the root says that there is no such service.
    records.retain(|record| !record.target.is_empty());
    match records.is_empty() {
        true => Err("no such host".to_owned()),
        false => Ok(records),
    }
}

/// The record at an offset, if it is of our type, and where the next one is.
fn record(answer: &[u8], at: usize) -> Option<(Option<Record>, usize)> {
    let (_, at) = name(answer, at)?;
    let kind = number(answer, at)?;
    let data = at + 10;
    let next = data + usize::from(number(answer, at + 8)?);
    if next > answer.len() {
        return None;
    }
    if kind != u16::from(SRV) {
        return Some((None, next));
    }
    let (target, _) = name(answer, data + 6)?;
    let record = Record {
        priority: number(answer, data)?,
        port: number(answer, data + 4)?,
        target,
    };
    Some((Some(record), next))
}

/// The name at an offset, and where what follows it is. A name may end with another one, by its offset.
fn name(answer: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let (mut at, mut after) = (start, None);
    // Each step back or forth is one of a bounded number, so that a circle ends.
    for _ in 0..MAX_LABELS {
        let length = *answer.get(at)?;
        match length {
            0 => {
                return Some((labels.join("."), after.unwrap_or(at + 1)));
            }
            1..=63 => {
                let end = at + 1 + usize::from(length);
                let label = answer.get(at + 1..end)?;
                let is_plain = label.iter().all(|byte| byte.is_ascii_graphic());
                labels.push(String::from_utf8(label.to_vec()).ok().filter(|_| is_plain)?);
                at = end;
            }
            192.. => {
                after = after.or(Some(at + 2));
                at = usize::from(number(answer, at)? & 0x3fff);
            }
            64..192 => return None,
        }
    }
    None
}

fn number(answer: &[u8], at: usize) -> Option<u16> {
    let bytes = answer.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The name servers in a `resolv.conf`; the machine itself if it names none.
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    });
    let named: Vec<SocketAddr> = named.collect();
    match named.is_empty() {
        true => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)],
        false => named,
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(3);
const HEADER_BYTES: usize = 12;
const MAX_BYTES: usize = 4096;
const MAX_LABELS: usize = 256;
const SRV: u8 = 33;
const INTERNET: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "_etcd-client._tcp.example.com";

    /// An answer with records of a priority, a port and the bytes of a target.
    fn answer(query: &[u8], records: &[(u16, u16, &[u8])]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[7] = u8::try_from(records.len()).unwrap();
        for (priority, port, target) in records {
            answer.extend([0xc0, 12, 0, SRV, 0, INTERNET, 0, 0, 0, 60]);
            answer.extend((u16::try_from(target.len()).unwrap() + 6).to_be_bytes());
            for number in [*priority, 0, *port] {
                answer.extend(number.to_be_bytes());
            }
            answer.extend(*target);
        }
        answer
    }

    #[tokio::test]
    async fn records_are_asked_for_and_come_in_their_order() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answering = async {
            let mut query = vec![0; 512];
            let (length, from) = server.recv_from(&mut query).await.unwrap();
            query.truncate(length);
            // The second one's domain is that of the question, 18 bytes after the header: _etcd-client, _tcp.
            let records: [(u16, u16, &[u8]); 2] = [(2, 23790, b"\x01b\x00"), (1, 2379, b"\x01a\xc0\x1e")];
            server.send_to(b"noise", from).await.unwrap();
            server.send_to(&answer(&query, &records), from).await.unwrap();
        };
        let servers = [address];
        let (found, ()) = tokio::join!(look_up(NAME, &servers), answering);
        let found: Vec<String> = found
            .unwrap()
            .iter()
            .map(|r| format!("{}:{}", r.target, r.port))
            .collect();
        assert_eq!(found, ["a.example.com:2379", "b:23790"]);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused_however_it_is_cut_or_changed() {
        let query = query([1, 2], NAME).unwrap();
        let whole = answer(&query, &[(1, 1, b"\x01a\xc0\x1e")]);
        assert_eq!(records(&query, &whole).unwrap()[0].target, "a.example.com");
        for length in 0..whole.len() {
            assert!(records(&query, &whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 63, 64, 0xc0, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                // It must end, whatever comes of it.
                let _ = records(&query, &changed);
            }
        }
        // A name that goes on at itself.
        let at = u8::try_from(whole.len() - 4).unwrap();
        let circle = answer(&query, &[(1, 1, &[1, b'a', 0xc0, at])]);
        assert!(records(&query, &circle).is_err());
        assert_eq!(
            records(&query, &answer(&query, &[(0, 0, b"\x00")])).unwrap_err(),
            "no such host"
        );
        let mut refused = whole.clone();
        refused[3] = 3;
        assert_eq!(records(&query, &refused).unwrap_err(), "no such host");
        let mut truncated = whole;
        truncated[2] |= 2;
        assert!(records(&query, &truncated).unwrap_err().contains("too many"));
    }

    #[test]
    fn names_and_servers_are_those_of_the_system() {
        assert!(query([0, 0], "a..b").is_none() && query([0, 0], &"a.".repeat(200)).is_none());
        assert_eq!(
            servers("# x\nnameserver 10.0.0.1\nnameserver ::1\noptions y\n"),
            ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
        assert_eq!(servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }
}
