//! Draws one request: a method, its fields, and now and then something that is wrong with it.

use super::Request;
use super::methods::{Field, Kind, METHODS, OFTEN};
use crate::rng::Rng;

/// One request.
pub(super) fn request(rng: &mut Rng) -> Request {
    let likely = match rng.one_in(2) {
        true => &METHODS[..OFTEN],
        false => METHODS,
    };
    let place = rng.below(u64::try_from(likely.len()).unwrap_or(1));
    let (path, fields) = &likely[usize::try_from(place).unwrap_or(0)];
    let body = object(rng, fields);
    let method = match rng.one_in(40) {
        true => rng.pick(&["GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]),
        false => "POST",
    };
    Request {
        method,
        path: match rng.one_in(40) {
            true => strange_path(rng, path),
            false => (*path).to_owned(),
        },
        is_escaped: rng.one_in(80),
        token: None,
        body: match rng.one_in(20) {
            // Servers do not agree on what a body of HEAD is.
            _ if method == "HEAD" => String::new(),
            true => strange_body(rng, fields, &body),
            false => body,
        },
    }
}

fn object(rng: &mut Rng, fields: &'static [Field]) -> String {
    let mut parts = Vec::new();
    for (name, kind) in fields {
        if rng.one_in(3) && *name != "key" && !matches!(kind, Kind::Seconds(_)) {
            continue;
        }
        let value = match rng.one_in(25) {
            true => strange_value(rng, kind),
            false => value(rng, kind),
        };
        let name = match rng.one_in(5) {
            true => camel_case(name),
            false => (*name).to_owned(),
        };
        parts.push(format!("\"{name}\":{value}"));
    }
    if rng.one_in(20) {
        parts.push(
            rng.pick(&["\"new\":1", "\"new\":{\"a\":[1]}", "\"\":null"])
                .to_owned(),
        );
    }
    format!("{{{}}}", parts.join(rng.pick(&[",", ",", " , "])))
}

fn value(rng: &mut Rng, kind: &'static Kind) -> String {
    match kind {
        Kind::Bytes(values)
        | Kind::Number(values)
        | Kind::Seconds(values)
        | Kind::Truth(values)
        | Kind::Message(values) => rng.pick(values).to_owned(),
        Kind::Name(names) | Kind::Text(names) => quoted(rng.pick(names)),
        Kind::Object(fields) => object(rng, fields),
        Kind::List(kind) => format!("[{}]", rng.some(0, 3, |rng| value(rng, kind)).join(",")),
    }
}

/// A value of a wrong type, or of a form that some parser may take.
fn strange_value(rng: &mut Rng, kind: &Kind) -> String {
    let of_kind = match kind {
        Kind::Bytes(_) => STRANGE_BYTES,
        Kind::Number(_) => STRANGE_NUMBERS,
        // None that is read as few.
        Kind::Seconds(_) => return rng.pick(STRANGE_SECONDS).to_owned(),
        Kind::Truth(_) => &["\"true\"", "1", "\"\""],
        Kind::Name(_) => &["\"DOWN\"", "\"\"", "true", "\"0\"", "1", "0"],
        Kind::Text(_) => &["5", "true", "\"\\u0041\""],
        Kind::Message(_) | Kind::Object(_) | Kind::List(_) => &["\"\"", "5", "[null]", "[[]]"],
    };
    match rng.one_in(3) {
        true => rng
            .pick(&["null", "{}", "[]", "[1]", "\"x y\"", "{\"a\":1}"])
            .to_owned(),
        false => rng.pick(of_kind).to_owned(),
    }
}

fn strange_body(rng: &mut Rng, fields: &[Field], body: &str) -> String {
    let may_be_empty = fields.iter().all(|(_, kind)| !matches!(kind, Kind::Seconds(_)));
    match rng.below(if may_be_empty { 10 } else { 7 }) {
        0 => body[..body.len() / 2].to_owned(),
        // etcd does not look at the rest, and ends at some alarms (see `NotAsked`), which Quorate could not tell then.
        1 | 2 if body.contains("\"alarm\"") => body.to_owned(),
        1 => format!("{body}{body}"),
        2 => format!("{body} x"),
        3 => format!(" \n{body}\n"),
        4 => body.replace('"', "'"),
        5 => format!("[{body}]"),
        6 => body.replacen('}', ",}", 1),
        _ => rng
            .pick(&[
                "",
                "null",
                "[]",
                "{}",
                "\"x\"",
                "5",
                "{",
                "{\"key\"}",
                "\u{feff}{}",
            ])
            .to_owned(),
    }
}

fn strange_path(rng: &mut Rng, path: &str) -> String {
    match rng.below(10) {
        0 => format!("{path}/"),
        1 => path.to_uppercase(),
        2 => path.replace("/v3/", "/v3beta/"),
        3 => path.replace("/v3/", "/v3alpha/"),
        4 => path.replace("/v3/", "/v4/"),
        5 => format!("{path}?key=YQ%3D%3D"),
        6 => format!("{path}/more"),
        7 => path.replacen("/v3/", "/v3//", 1),
        8 => path.replacen("/v3/", "/v3/x/../", 1),
        _ => rng.pick(&["/v3/", "/v3", "/v3/kv", "/v3/kv/nothing"]).to_owned(),
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        let (head, rest) = part.split_at(part.len().min(1));
        name + &head.to_uppercase() + rest
    })
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

const STRANGE_BYTES: &[&str] = &[
    "\"?\"",
    "\"YQ\"",
    "\"_-8=\"",
    "\"+/8=\"",
    "\"YR==\"",
    "\"Y Q=\"",
    "5",
    "true",
    "\"YQ==\\n\"",
    "[97,98]",
];

const STRANGE_SECONDS: &[&str] = &["1.5", "\"x\"", "\"\"", "true", "{}", "[]", "9223372036854775807"];

const STRANGE_NUMBERS: &[&str] = &[
    "1.5",
    "1.0",
    "\"1.0\"",
    "1e0",
    "\"1e0\"",
    "\"\"",
    "\" 1\"",
    "\"0x1\"",
    "\"9223372036854775808\"",
    "9223372036854775807",
    "99999999999999999999",
    "true",
    "\"+1\"",
    "\"01\"",
    "01",
    "-0",
    "\"null\"",
];
