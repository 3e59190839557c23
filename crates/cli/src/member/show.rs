//! Members as people and programs read them.

use super::Output;
use super::cluster::NewMember;
use super::replace::Replaced;
use comfy_table::{Table, presets};
use quorate_etcd_api::etcdserverpb::{Member, MemberAddResponse};
use quorate_server::Scheme;
use serde_json::{Value, json};

/// The members.
pub(super) fn members(members: &[Member], output: Output) -> String {
    match output {
        Output::Text => format!("{}\n", table(members).trim_fmt()),
        Output::Json => format!("{}\n", json!({ "members": values(members) })),
    }
}

/// A member that was added, and how to start it.
pub(super) fn added(new: &NewMember, added: &MemberAddResponse, output: Output) -> String {
    let id = added.member.as_ref().map_or(0, |member| member.id);
    let start = start_command(new, &added.members);
    match output {
        Output::Text => format!(
            "{} is member {id:016x}. It votes once it has caught up. Start it with:\n\n  {start}\n",
            new.name
        ),
        Output::Json => {
            let members = values(&added.members);
            let id = format!("{id:016x}");
            format!(
                "{}\n",
                json!({ "member": id, "start": start, "members": members })
            )
        }
    }
}

/// A member that took another's place.
pub(super) fn replaced(replaced: &Replaced, output: Output) -> String {
    let Replaced {
        dead,
        new,
        took,
        members,
    } = replaced;
    match output {
        Output::Text => format!(
            "{new:016x} has taken the place of {dead:016x} after {:.1} s.\n\n{}\n",
            took.as_secs_f64(),
            table(members).trim_fmt()
        ),
        Output::Json => {
            let (dead, new) = (format!("{dead:016x}"), format!("{new:016x}"));
            let (seconds, members) = (took.as_secs_f64(), values(members));
            format!(
                "{}\n",
                json!({ "dead": dead, "new": new, "seconds": seconds, "members": members })
            )
        }
    }
}

/// How the new member is started, as one types it.
pub(super) fn start_command(new: &NewMember, members: &[Member]) -> String {
    let named = members
        .iter()
        .filter(|member| member.peer_ur_ls != [new.peer_url.to_string()]);
    let others = named.enumerate().flat_map(|(place, member)| {
        let name = match member.name.as_str() {
            "" => format!("member{}", place + 1),
            name => name.to_string(),
        };
        let urls = member.peer_ur_ls.iter();
        urls.map(move |url| format!("{name}={url}")).collect::<Vec<_>>()
    });
    let own = format!("{}={}", new.name, new.peer_url);
    let cluster: Vec<String> = others.chain([own]).collect();
    let certificates = match new.peer_url.scheme() {
        Scheme::Http => "",
        Scheme::Https => " --peer-cert-file FILE --peer-key-file FILE --peer-trusted-ca-file FILE",
    };
    format!(
        "quorate start --name {name} --listen-peer-urls {url}{certificates} --listen-client-urls {clients} --initial-cluster-state existing --initial-cluster {cluster}",
        name = new.name,
        url = new.peer_url,
        clients = new.client_url(),
        cluster = cluster.join(","),
    )
}

fn table(members: &[Member]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["id", "name", "for peers", "for clients", "votes"]);
    for member in members {
        table.add_row([
            format!("{:016x}", member.id),
            match member.name.as_str() {
                "" => "(not started)".to_string(),
                name => name.to_string(),
            },
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            match member.is_learner {
                true => "no, learns".to_string(),
                false => "yes".to_string(),
            },
        ]);
    }
    table
}

fn values(members: &[Member]) -> Vec<Value> {
    let value = |member: &Member| {
        json!({
            "id": format!("{:016x}", member.id),
            "name": member.name,
            "peerURLs": member.peer_ur_ls,
            "clientURLs": member.client_ur_ls,
            "isLearner": member.is_learner,
        })
    };
    members.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, id: u64, host: &str) -> Member {
        Member {
            id,
            name: name.to_string(),
            peer_ur_ls: vec![format!("http://{host}:2380")],
            client_ur_ls: Vec::new(),
            is_learner: name.is_empty(),
        }
    }

    #[test]
    fn the_start_command_names_everybody_once() {
        let new = NewMember::full("d".to_string(), "http://d:2380".parse().unwrap());
        let members = [member("a", 1, "a"), member("", 2, "x"), member("", 3, "d")];
        let command = start_command(&new, &members);
        assert!(
            command.contains("--listen-client-urls http://d:2379 "),
            "{command}"
        );
        let expected = "--initial-cluster a=http://a:2380,member2=http://x:2380,d=http://d:2380";
        assert!(command.ends_with(expected), "{command}");
    }

    #[test]
    fn members_are_shown_to_people_and_programs() {
        let members = [member("a", 10, "a"), member("", 11, "b")];
        let text = super::members(&members, Output::Text);
        assert!(
            text.contains("000000000000000a") && text.contains("(not started)"),
            "{text}"
        );
        let json: Value = serde_json::from_str(&super::members(&members, Output::Json)).unwrap();
        assert_eq!(json["members"][1]["isLearner"], true);
        assert_eq!(json["members"][0]["id"], "000000000000000a");
    }
}
