//! The commands of golden traces.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use goldenscript::{Argument, Command, Context};
use quorate_raft::entry::{Entry, LogSlice, Payload};
use quorate_raft::message::{
    AppendEntries, AppendEntriesResponse, Campaign, Envelope, Forward, Heartbeat, HeartbeatResponse,
    PreVerdict, PreVoteResponse, RequestVote, Verdict,
};
use quorate_raft::status::RoleKind;
use quorate_raft::{
    Configuration, Consistency, Delivery, DriftBound, EntryId, GroupId, Index, Input, MemberInfo, MemberKind,
    Message, NodeId, Precondition, Priority, Round, Session, SnapshotMeta, SnapshotSent, Target, Term,
    Transferee,
};

use crate::cluster::network::Filter;
use crate::cluster::{Cluster, LogRead, Options};

type Failure = Box<dyn Error>;

/// Runs one trace.
#[derive(Default)]
pub(crate) struct Script {
    cluster: Option<Cluster>,
    said: Vec<String>,
}

impl Script {
    /// What the nodes did so far, the last command's doings included: to find out why a script failed.
    pub(crate) fn into_said(mut self) -> Vec<String> {
        self.said
            .extend(self.cluster.iter_mut().flat_map(Cluster::take_lines));
        self.said
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let args = Args::new(command)?;
        if command.name == "cluster" {
            self.cluster = Some(Cluster::new(options(&args)?));
            return Ok(String::new());
        }
        let cluster = self.cluster.as_mut().ok_or("the first command is `cluster`")?;
        let said = run(cluster, &command.name, &args)?;
        let mut lines = cluster.take_lines();
        lines.extend(said);
        self.said.extend(lines.iter().cloned());
        Ok(lines.join("\n"))
    }

    fn end_script(&mut self) -> Result<(), Failure> {
        self.cluster
            .iter()
            .for_each(|cluster| cluster.history.check_tickets());
        Ok(())
    }
}

/// A command's arguments, sorted by what they look like.
struct Args {
    nodes: Vec<NodeId>,
    links: Vec<(NodeId, NodeId)>,
    numbers: Vec<u64>,
    words: Vec<String>,
    keys: Vec<(String, String)>,
}

impl Args {
    fn new(command: &Command) -> Result<Self, Failure> {
        let mut args = Self {
            nodes: vec![],
            links: vec![],
            numbers: vec![],
            words: vec![],
            keys: vec![],
        };
        for argument in &command.args {
            match argument {
                Argument::KeyValue(key, value) => args.keys.push((key.clone(), value.clone())),
                Argument::Positional(word) => args.sort(word),
                _ => return Err(format!("what is {argument}?").into()),
            }
        }
        Ok(args)
    }

    fn sort(&mut self, word: &str) {
        let link = word
            .split_once("-/")
            .and_then(|(from, to)| Some((parse_node(from)?, parse_node(to)?)));
        if let Some(link) = link {
            self.links.push(link);
        } else if let Some(node) = parse_node(word) {
            self.nodes.push(node);
        } else if let Ok(number) = word.parse() {
            self.numbers.push(number);
        } else {
            self.words.push(word.to_string());
        }
    }

    fn node(&self) -> Result<NodeId, Failure> {
        self.nodes.first().copied().ok_or_else(|| "which node?".into())
    }

    /// The nodes named, or all.
    fn nodes_or(&self, all: Vec<NodeId>) -> Vec<NodeId> {
        if self.nodes.is_empty() {
            all
        } else {
            self.nodes.clone()
        }
    }

    fn number_or(&self, default: u64) -> u64 {
        self.numbers.first().copied().unwrap_or(default)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other == word)
    }

    fn key(&self, key: &str) -> Option<&str> {
        self.keys
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    fn value<T: TryFrom<u64>>(&self, key: &str, default: T) -> Result<T, Failure> {
        let Some(value) = self.key(key) else {
            return Ok(default);
        };
        let number: u64 = value.parse().map_err(|_| format!("{key}={value} is no number"))?;
        T::try_from(number).map_err(|_| format!("{key}={value} is too large").into())
    }

    fn filter(&self) -> Result<Filter, Failure> {
        let count = self.key("count").map(str::parse).transpose()?;
        let only = self.key("only").unwrap_or_default().to_string();
        let links = self.links.clone();
        Ok(Filter { links, only, count })
    }
}

fn options(args: &Args) -> Result<Options, Failure> {
    let mut options = Options {
        voters: args.value("nodes", 3)?,
        automatic: args.has("auto"),
        ..Options::default()
    };
    options.learners = args.value("learners", 0)?;
    options.witnesses = args.value("witnesses", 0)?;
    options.election_ticks = args.value("election", options.election_ticks)?;
    options.heartbeat_ticks = args.value("heartbeat", options.heartbeat_ticks)?;
    options.seed = args.value("seed", options.seed)?;
    options.leases = args.key("drift").map(str::parse).transpose()?.map(DriftBound);
    let limits = &mut options.limits;
    limits.max_command_bytes = args.value("command", limits.max_command_bytes)?;
    limits.max_message_bytes = args.value("message", limits.max_message_bytes)?;
    limits.max_inflight_bytes = args.value("inflight", limits.max_inflight_bytes)?;
    limits.max_uncommitted_bytes = args.value("uncommitted", limits.max_uncommitted_bytes)?;
    limits.max_applying_bytes = args.value("applying", limits.max_applying_bytes)?;
    limits.window_bytes = args.value("window", limits.window_bytes)?;
    limits.max_pending_reads = args.value("reads", limits.max_pending_reads)?;
    limits.retained_entries = args.value("retained", limits.retained_entries)?;
    Ok(options)
}

fn run(cluster: &mut Cluster, name: &str, args: &Args) -> Result<Vec<String>, Failure> {
    match name {
        "tick" => tick(cluster, args),
        "campaign" => campaign(cluster, args.node()?),
        "elect" => {
            args.node()?;
            elect(cluster, &args.nodes);
        }
        "propose" => {
            cluster.propose(args.node()?, &commands(args)?);
        }
        "read" => {
            let consistency = match args.has("lease") {
                true => Consistency::Lease,
                false => Consistency::Linearizable,
            };
            cluster.read(args.node()?, usize::try_from(args.number_or(1))?, consistency);
        }
        "wait" => cluster.pass(Duration::from_millis(args.number_or(0))),
        "doubt" => cluster.step(args.node()?, Input::ClockInDoubt),
        "transfer" => {
            let to = args.nodes.get(1).copied();
            cluster.transfer(args.node()?, to.map_or(Transferee::Best, Transferee::Node));
        }
        "join" => {
            let kind = if args.has("witness") {
                MemberKind::Witness
            } else {
                MemberKind::Full
            };
            cluster.join(args.node()?, kind);
        }
        "reconfigure" => reconfigure(cluster, args)?,
        "gone" => gone(cluster, args)?,
        "ended" => ended(cluster, args)?,
        "stabilize" => cluster.stabilize_among(&args.nodes_or(cluster.ids())),
        "crash" => cluster.crash(args.node()?, args.value("writes", 0)?),
        "restart" => cluster.start(args.node()?),
        "store" => store(cluster, args)?,
        "persist" | "apply" | "restore" | "readlog" | "snapshot" | "ship" => work(cluster, name, args)?,
        "deliver" | "drop" | "duplicate" | "reverse" | "hold" | "release" | "inject" | "partition"
        | "cut" | "heal" => {
            return network(cluster, name, args);
        }
        "status" | "log" | "progress" | "pending" | "members" | "lease" => {
            return Ok(show(cluster, name, args));
        }
        _ => return Err(format!("what is {name}?").into()),
    }
    Ok(Vec::new())
}

/// Asks the first node for the members that follow.
fn reconfigure(cluster: &mut Cluster, args: &Args) -> Result<(), Failure> {
    let (asked, voters) = args.nodes.split_first().ok_or("whom to ask?")?;
    let named = |key: &str| -> Result<Vec<NodeId>, Failure> {
        let names = args.key(key).unwrap_or_default().split(',');
        names
            .filter(|name| !name.is_empty())
            .map(|name| parse_node(name).ok_or_else(|| format!("what is {name}?").into()))
            .collect()
    };
    let (witnesses, wanted) = (named("witnesses")?, named("wanted")?);
    let context = bytes::Bytes::from(vec![b'c'; args.value("context", 0_usize)?]);
    let info = |node: NodeId| {
        let kind = match witnesses.contains(&node) {
            true => MemberKind::Witness,
            false => MemberKind::Full,
        };
        let priority = Priority(u32::from(wanted.contains(&node)));
        let context = context.clone();
        (
            node,
            MemberInfo {
                kind,
                priority,
                context,
            },
        )
    };
    let learners = named("learners")?;
    let target = Target::new(voters.iter().copied().map(info), learners.into_iter().map(info))?;
    let expected = named("if")?;
    let precondition = match expected.is_empty() {
        true => Precondition::Any,
        false => Precondition::Current(Box::new(Configuration::new(expected, [])?)),
    };
    cluster.reconfigure(*asked, target, precondition);
    Ok(())
}

fn tick(cluster: &mut Cluster, args: &Args) {
    for _ in 0..args.number_or(1) {
        for node in args.nodes_or(cluster.running()) {
            cluster.step(node, Input::Tick);
        }
    }
}

/// Tells the nodes named after the first that the first is gone; all that run if none is named.
fn gone(cluster: &mut Cluster, args: &Args) -> Result<(), Failure> {
    let peer = args.node()?;
    let told = match args.nodes.get(1..) {
        Some(told) if !told.is_empty() => told.to_vec(),
        _ => cluster.running(),
    };
    for node in told.into_iter().filter(|node| *node != peer) {
        cluster.step(node, Input::PeerGone(peer));
    }
    Ok(())
}

/// A node is told that a transfer has failed, whether it asked for it or not.
fn ended(cluster: &mut Cluster, args: &Args) -> Result<(), Failure> {
    let sent = SnapshotSent {
        to: *args.nodes.get(1).ok_or("to which node?")?,
        id: parse_id(args.key("snapshot").ok_or("which snapshot?")?)?,
        term: Term(args.value("term", 0)?),
        outcome: Delivery::Failed,
    };
    cluster.step(args.node()?, Input::SnapshotSent(sent));
    Ok(())
}

/// Ticks until the node asks for votes, again if it did already.
fn campaign(cluster: &mut Cluster, node: NodeId) {
    let was_follower = cluster.status(node).role == RoleKind::Follower;
    let before = cluster.network.asked_by(node);
    for _ in 0..1_000 {
        cluster.step(node, Input::Tick);
        let is_follower = cluster.status(node).role == RoleKind::Follower;
        if cluster.network.asked_by(node) > before || (was_follower && !is_follower) {
            return;
        }
    }
    panic!("{node} never campaigns");
}

/// Makes the first node lead: the others named have waited so long that they shelter no leader.
fn elect(cluster: &mut Cluster, nodes: &[NodeId]) {
    let candidate = nodes[0];
    for voter in &nodes[1..] {
        for _ in 0..cluster.election_ticks() {
            cluster.step(*voter, Input::Tick);
        }
        let role = cluster.status(*voter).role;
        assert_eq!(
            role,
            RoleKind::Follower,
            "{voter} campaigned first: try another seed"
        );
    }
    campaign(cluster, candidate);
    cluster.stabilize();
    let role = cluster.status(candidate).role;
    assert_eq!(role, RoleKind::Leader, "{candidate} was not elected");
}

fn commands(args: &Args) -> Result<Vec<String>, Failure> {
    let size = args.value("size", 0)?;
    Ok(args
        .words
        .iter()
        .map(|word| word.repeat((size / word.len()).max(1)))
        .collect())
}

/// Starts a node from a log of these terms, all of it on its disk.
fn store(cluster: &mut Cluster, args: &Args) -> Result<(), Failure> {
    let mut disk = cluster.blank_disk();
    if let Some(base) = args.key("base") {
        disk.base = parse_id(base)?;
        disk.snapshot.id = disk.base;
    }
    for term in &args.numbers {
        let id = EntryId::new(disk.last().index.next(), Term(*term));
        disk.entries.push(Entry {
            id,
            payload: Payload::Noop,
        });
    }
    disk.hard_state.term = Term(args.value("term", disk.last().term.0)?);
    disk.hard_state.vote = args.key("vote").and_then(parse_node);
    cluster.start_from(args.node()?, disk);
    Ok(())
}

fn work(cluster: &mut Cluster, name: &str, args: &Args) -> Result<(), Failure> {
    let node = args.node()?;
    let done = match name {
        "persist" => cluster.persist(node, usize::try_from(args.number_or(u64::MAX))?),
        "apply" => cluster.apply(node, Index(args.number_or(u64::MAX))),
        "restore" => cluster.restore(node),
        "readlog" => {
            if args.has("apply") {
                cluster.reads_to_apply_first(node);
            }
            let how = match args.words.first().map(String::as_str) {
                Some("gone") => LogRead::Gone,
                Some("early") => LogRead::Early,
                _ => LogRead::Late,
            };
            cluster.answer_log_read(node, how)
        }
        "snapshot" => cluster.snapshot(node, args.numbers.first().copied().map(Index)),
        _ => cluster.ship(
            node,
            if args.has("fail") {
                Delivery::Failed
            } else {
                Delivery::Delivered
            },
        ),
    };
    if done {
        Ok(())
    } else {
        Err(format!("{node} has nothing to {name}").into())
    }
}

fn network(cluster: &mut Cluster, name: &str, args: &Args) -> Result<Vec<String>, Failure> {
    let filter = args.filter()?;
    match name {
        "partition" => partition(cluster, &args.nodes),
        "cut" => args
            .links
            .iter()
            .for_each(|(from, to)| cluster.network.cut(*from, *to)),
        "heal" => cluster.network.heal(),
        "inject" => {
            let envelope = forged(args, cluster.configuration())?;
            cluster.receive(envelope);
        }
        "release" => return Ok(each("again", &cluster.network.release())),
        "hold" => return Ok(each("held", &cluster.network.hold(&filter))),
        _ => {
            let taken = cluster.network.take(&filter);
            if taken.is_empty() {
                return Err(format!("there is nothing to {name}").into());
            }
            match name {
                "deliver" => taken.into_iter().for_each(|envelope| cluster.receive(envelope)),
                "drop" => return Ok(each("lost", &taken)),
                "duplicate" => {
                    cluster.network.put_back(taken.clone());
                    cluster.network.put_back(taken.clone());
                    return Ok(each("doubled", &taken));
                }
                _ => cluster.network.put_back(taken.into_iter().rev().collect()),
            }
        }
    }
    Ok(Vec::new())
}

fn each(what: &str, envelopes: &[Envelope]) -> Vec<String> {
    envelopes
        .iter()
        .map(|envelope| format!("{what}: {envelope}"))
        .collect()
}

/// Cuts these nodes from all others.
fn partition(cluster: &mut Cluster, group: &[NodeId]) {
    for inside in group {
        for outside in cluster.ids().into_iter().filter(|node| !group.contains(node)) {
            cluster.network.cut(*inside, outside);
            cluster.network.cut(outside, *inside);
        }
    }
}

/// A message that no node of the cluster sent.
fn forged(args: &Args, configuration: &Configuration) -> Result<Envelope, Failure> {
    let (from, to) = *args.links.first().ok_or("from whom to whom?")?;
    let id = |key| args.key(key).map_or(Ok(EntryId::ZERO), parse_id);
    let number = |key| args.value(key, 0_u64);
    let kind = args.words.first().map(String::as_str).ok_or("which message?")?;
    let message = match kind {
        "Heartbeat" => {
            let (commit, round) = (Index(number("commit")?), Round(number("round")?));
            Message::Heartbeat(Heartbeat { commit, round })
        }
        "HeartbeatResponse" => {
            let (round, verified) = (Round(number("round")?), Index(number("verified")?));
            Message::HeartbeatResponse(HeartbeatResponse { round, verified })
        }
        "Accepted" => {
            let match_index = Index(number("match")?);
            Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index })
        }
        "RequestVote" => Message::RequestVote(RequestVote {
            last: id("last")?,
            cause: Campaign::Timeout,
        }),
        "VoteGranted" => Message::VoteResponse(Verdict::Granted),
        "PreVoteGranted" => {
            let (term, verdict) = (Term(number("about")?), PreVerdict::Granted);
            Message::PreVoteResponse(PreVoteResponse { term, verdict })
        }
        "AppendEntries" => Message::AppendEntries(forged_append(args)?),
        "InstallSnapshot" => {
            let configuration = Arc::new(configuration.clone());
            Message::InstallSnapshot(SnapshotMeta {
                id: id("last")?,
                configuration,
            })
        }
        "TimeoutNow" => Message::TimeoutNow,
        "Forward" => Message::Forward(Forward {
            session: Session(number("session")?),
            seq: number("seq")?,
            commands: vec![bytes::Bytes::from_static(b"x")],
        }),
        "PreVoteDenied" => {
            let (term, verdict) = (Term(number("about")?), PreVerdict::MoreUpToDate(id("last")?));
            Message::PreVoteResponse(PreVoteResponse { term, verdict })
        }
        _ => return Err(format!("cannot forge {kind}").into()),
    };
    let group = GroupId(args.value("group", 1)?);
    Ok(Envelope {
        group,
        from,
        to,
        term: Term(number("term")?),
        message,
    })
}

fn forged_append(args: &Args) -> Result<AppendEntries, Failure> {
    let words = args.words.iter().skip(1);
    let ids = words.map(|word| parse_id(word)).collect::<Result<Vec<_>, _>>()?;
    let prev = args.key("prev").map_or(Ok(EntryId::ZERO), parse_id)?;
    let payload = Payload::Noop;
    let entries = ids.into_iter().map(|id| Entry {
        id,
        payload: payload.clone(),
    });
    let slice = LogSlice::new(prev, entries.collect())?;
    let commit = Index(args.value("commit", 0_u64)?);
    Ok(AppendEntries { slice, commit })
}

fn show(cluster: &Cluster, what: &str, args: &Args) -> Vec<String> {
    if what == "pending" {
        return cluster
            .history
            .unanswered()
            .iter()
            .map(|ticket| format!("{ticket} is open"))
            .collect();
    }
    let nodes = args.nodes_or(cluster.ids()).into_iter();
    nodes.flat_map(|node| describe(cluster, what, node)).collect()
}

fn describe(cluster: &Cluster, what: &str, node: NodeId) -> Vec<String> {
    let member = cluster.member(node);
    let Some(status) = member.status() else {
        return vec![format!("{node} is down")];
    };
    let name = format!("{node}@{}", status.term);
    match what {
        "log" => {
            let entries: Vec<String> = member.written.entries.iter().map(ToString::to_string).collect();
            vec![format!(
                "{name} log after {}: [{}]",
                status.base,
                entries.join(", ")
            )]
        }
        "lease" => match cluster.lease(node) {
            (Some(until), now) => vec![format!("{name} leads by a lease for {}us", until.0 - now.0)],
            (None, _) => vec![format!("{name} has no lease")],
        },
        "members" => vec![format!("{name} {}", status.configuration)],
        "progress" => {
            let line = |(peer, progress): (&NodeId, &quorate_raft::PeerStatus)| {
                let active = if progress.active { "" } else { " silent" };
                let (mode, matches, next) = (progress.mode, progress.match_index, progress.next_index);
                format!("{name} progress {peer} {mode:?} match={matches} next={next}{active}")
            };
            status.progress.iter().map(line).collect()
        }
        _ => {
            let leader = status
                .leader
                .map_or("none".to_string(), |leader| leader.to_string());
            let (commit, applied) = (status.commit_index, status.applied_index);
            let (last, durable) = (status.last, status.durable_index);
            let role = status.role;
            vec![format!(
                "{name} {role:?} leader={leader} commit={commit} applied={applied} last={last} durable={durable}"
            )]
        }
    }
}

fn parse_node(word: &str) -> Option<NodeId> {
    word.strip_prefix('n')?.parse().ok().map(NodeId)
}

fn parse_id(word: &str) -> Result<EntryId, Failure> {
    let (index, term) = word
        .split_once('@')
        .ok_or_else(|| format!("{word} is no entry"))?;
    Ok(EntryId::new(Index(index.parse()?), Term(term.parse()?)))
}
