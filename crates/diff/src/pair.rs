//! The two servers, driven through the same calls in step.

use anyhow::{Context, Result};
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb as pb;
use tokio::time::{Duration, Instant};

use crate::call::{AuthCall, Call, Keys, MemberRef, Range, Rev, RoleCall, Stream};
use crate::generate;
use crate::known::{
    COMPACT_BY_OTHERS, EMPTY_PASSWORD, MEMBER_URLS, NO_RIGHT, PERMISSION_RANGE, PROGRESS_OF_THE_FUTURE,
    SORT_TARGET_PANIC, TXN_WITHOUT_RIGHTS, WATCH_AT_COMPACTED, WATCH_BEFORE_ALL, known,
};
use crate::outcome::Outcome;
use crate::subject::{State, Subject};
use crate::watches::WatchStream;

/// Two servers that have seen the same calls.
pub(crate) struct Pair {
    etcd: Subject,
    quorate: Subject,
    state: State,
    watches: Watches,
    /// Streams on which a watcher may still be reading the past.
    catching_up: [bool; 2],
    /// Revisions at which watchers start that may not have begun, by stream.
    starts: [Vec<i64>; 2],
}

/// Whether what watchers are told is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watches {
    /// It is, and nobody needs to log in.
    Compared,
    /// It is not: there are none.
    Not,
}

/// A call that two servers answered differently.
#[derive(Clone, Debug)]
pub(crate) struct Divergence {
    /// The place of the call in its sequence.
    pub(crate) place: usize,
    pub(crate) etcd: String,
    pub(crate) quorate: String,
}

/// How a sequence went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Calls with equal outcomes.
    pub(crate) equal: usize,
    /// Calls whose outcomes differ as is known and said.
    pub(crate) known: Vec<&'static str>,
    /// The first call whose outcomes differ otherwise.
    pub(crate) divergence: Option<Divergence>,
}

impl Pair {
    /// Connects to two servers that nobody has written to.
    pub(crate) async fn connect(etcd: &str, quorate: &str, watches: Watches) -> Result<Pair> {
        let (etcd, quorate) = tokio::try_join!(Subject::connect(etcd), Subject::connect(quorate))?;
        let mut pair = Pair {
            etcd,
            quorate,
            state: State {
                current: 1,
                compacted: -1,
            },
            watches,
            catching_up: [false; 2],
            starts: Default::default(),
        };
        if watches == Watches::Compared {
            for stream in Stream::ALL {
                pair.watch_barrier(stream, BARRIER, 0).await?;
            }
        }
        Ok(pair)
    }

    /// The version that etcd tells.
    pub(crate) fn etcd_version(&self) -> &str {
        &self.etcd.version
    }

    /// Makes calls until two outcomes differ, and then looks at what all of them have left.
    pub(crate) async fn run(&mut self, calls: &[Call]) -> Report {
        let mut report = Report::default();
        let mut closing = match self.watches {
            Watches::Compared => Vec::new(),
            Watches::Not => generate::auth::ending(),
        };
        closing.extend([Call::Range(everything()), Call::Leases]);
        for (place, call) in calls.iter().chain(&closing).enumerate() {
            match self.make(call).await {
                Ok(Made::Equal) => report.equal += 1,
                Ok(Made::Known(name)) => report.known.push(name),
                Ok(Made::Different { etcd, quorate }) => {
                    report.divergence = Some(Divergence { place, etcd, quorate });
                    return report;
                }
                Err(error) => {
                    report.divergence = Some(failed(place, &error));
                    return report;
                }
            }
        }
        let place = calls.len();
        match self.settle().await {
            Ok(None) => {}
            Ok(Some((etcd, quorate))) => report.divergence = Some(Divergence { place, etcd, quorate }),
            Err(error) => report.divergence = Some(failed(place, &error)),
        }
        report
    }

    async fn make(&mut self, call: &Call) -> Result<Made> {
        // What a compaction or a cancellation takes from a watcher that has not been served yet is up to
        // the moment.
        if matches!(
            call,
            Call::Compact { .. } | Call::CancelWatch { .. } | Call::Progress(_)
        ) && let Some((etcd, quorate)) = self.settle().await?
        {
            return Ok(Made::Different { etcd, quorate });
        }
        if let Some(name) = self.not_comparable(call) {
            return Ok(Made::Known(name));
        }
        let (etcd, quorate) = if let Some(name) = asked_of_anybody(call) {
            let quorate = self.quorate.call(call, self.state).await.context("quorate")?;
            if LACKS_A_RIGHT.iter().any(|text| quorate.is_refused_with(text)) {
                return Ok(Made::Known(name));
            }
            (self.etcd.call(call, self.state).await.context("etcd")?, quorate)
        } else {
            let (etcd, quorate) = tokio::join!(
                self.etcd.call(call, self.state),
                self.quorate.call(call, self.state)
            );
            (etcd.context("etcd")?, quorate.context("quorate")?)
        };
        self.follow(call, &etcd);
        if etcd.text == quorate.text {
            return self.leave_compacted(call).await;
        }
        let known = known().find(|known| known.covers(call, &etcd, &quorate, &self.etcd.version));
        Ok(match known {
            Some(known) => Made::Known(known.name),
            None => Made::Different {
                etcd: etcd.text,
                quorate: quorate.text,
            },
        })
    }

    /// Sees a watcher that starts too early to its end, and then closes its stream, since the servers do
    /// not agree on whether its id is free.
    async fn leave_compacted(&mut self, call: &Call) -> Result<Made> {
        let Call::Watch(watch) = call else {
            return Ok(Made::Equal);
        };
        let start = resolve(self.state, watch.start);
        if start == 0 || start >= self.state.compacted {
            return Ok(Made::Equal);
        }
        if let Some((etcd, quorate)) = self.settle().await? {
            return Ok(Made::Different { etcd, quorate });
        }
        let place = watch.stream as usize;
        self.etcd.reopen(place).await?;
        self.quorate.reopen(place).await?;
        self.starts[place].clear();
        self.watch_barrier(watch.stream, BARRIER, 0).await?;
        Ok(Made::Equal)
    }

    /// The difference for which a call is not made, since the servers would go different ways after it.
    fn not_comparable(&self, call: &Call) -> Option<&'static str> {
        let waits = |start: &i64| *start > self.state.current;
        if let Call::Progress(stream) = call
            && self.starts[*stream as usize].iter().any(waits)
        {
            return Some(PROGRESS_OF_THE_FUTURE);
        }
        if let Call::Watch(watch) = call
            && resolve(self.state, watch.start) < 0
        {
            return Some(WATCH_BEFORE_ALL);
        }
        if let Call::Watch(watch) = call
            && self.state.compacted > 0
            && resolve(self.state, watch.start) == self.state.compacted
        {
            return Some(WATCH_AT_COMPACTED);
        }
        if let Call::Auth(AuthCall::Role(RoleCall::Grant { keys: None, .. })) = call
            && self.etcd.version.starts_with("3.4.")
        {
            return Some(NO_RIGHT);
        }
        if let Call::Auth(call) = call
            && let Some(name) = not_comparable(call)
        {
            return Some(name);
        }
        if let Call::Range(range) = call
            && !(0..=4).contains(&range.sort_target)
        {
            return Some(SORT_TARGET_PANIC);
        }
        let updates_itself =
            matches!(call, Call::MemberUpdate { member, .. } if *member == MemberRef::Itself);
        updates_itself.then_some(MEMBER_URLS)
    }

    /// Keeps the state that both servers have reached.
    fn follow(&mut self, call: &Call, outcome: &Outcome) {
        let before = self.state;
        if let Some(revision) = outcome.revision {
            self.state.current = self.state.current.max(revision);
        }
        if let (Call::Compact { revision, .. }, Some(_)) = (call, outcome.revision) {
            self.state.compacted = resolve(before, *revision);
        }
        if let Call::Watch(watch) = call {
            let (start, stream) = (resolve(before, watch.start), watch.stream as usize);
            if start != 0 && start <= before.current {
                self.catching_up[stream] = true;
            } else if start != 0 {
                self.starts[stream].push(start);
            }
        }
    }

    /// Waits until all watchers have been told all there is, and compares what they were told.
    async fn settle(&mut self) -> Result<Option<(String, String)>> {
        if self.watches == Watches::Not {
            return Ok(None);
        }
        for stream in Stream::ALL {
            if std::mem::take(&mut self.catching_up[stream as usize]) {
                self.pass_through_the_past(stream).await?;
            }
        }
        let revision = self.put_barrier().await?;
        for stream in Stream::ALL {
            self.reach(stream, BARRIER, revision).await?;
        }
        let deadline = Instant::now() + SETTLING;
        loop {
            let told = |streams: &mut [WatchStream; 2], ids: &_| -> Result<Vec<_>> {
                let told = streams.iter_mut().map(|stream| stream.changes(ids, BARRIER));
                told.collect()
            };
            let (streams, ids) = self.etcd.streams();
            let etcd = told(streams, &ids).context("etcd")?;
            let (streams, ids) = self.quorate.streams();
            let quorate = told(streams, &ids).context("quorate")?;
            if etcd == quorate {
                break;
            }
            if Instant::now() > deadline {
                return Ok(Some((format!("{etcd:#?}"), format!("{quorate:#?}"))));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for subject in [&mut self.etcd, &mut self.quorate] {
            subject.streams.iter_mut().for_each(WatchStream::clear);
        }
        Ok(None)
    }

    /// Waits until watchers that start in the past have read it: a server that serves those of a stream
    /// in turn has served all when it has served one more.
    async fn pass_through_the_past(&mut self, stream: Stream) -> Result<()> {
        let revision = self.put_barrier().await?;
        self.watch_barrier(stream, LATE_BARRIER, revision).await?;
        self.reach(stream, LATE_BARRIER, revision).await?;
        let cancel = Call::CancelWatch {
            stream,
            id: LATE_BARRIER,
        };
        let canceled = tokio::join!(
            self.etcd.call(&cancel, self.state),
            self.quorate.call(&cancel, self.state)
        );
        canceled.0.context("etcd")?;
        canceled.1.context("quorate")?;
        Ok(())
    }

    async fn watch_barrier(&mut self, stream: Stream, id: i64, start: i64) -> Result<()> {
        let request = pb::WatchCreateRequest {
            key: Bytes::from_static(BARRIER_KEY),
            start_revision: start,
            watch_id: id,
            ..Default::default()
        };
        let created = tokio::join!(
            self.etcd.create_watch(stream, request.clone()),
            self.quorate.create_watch(stream, request)
        );
        created.0.context("etcd")?;
        created.1.context("quorate")?;
        Ok(())
    }

    async fn put_barrier(&mut self) -> Result<i64> {
        let request = pb::PutRequest {
            key: Bytes::from_static(BARRIER_KEY),
            ..Default::default()
        };
        let put = tokio::join!(self.etcd.kv.put(request.clone()), self.quorate.kv.put(request));
        let (etcd, quorate) = (put.0.context("etcd")?, put.1.context("quorate")?);
        let revision =
            |response: &pb::PutResponse| response.header.as_ref().map_or(0, |header| header.revision);
        let (etcd, quorate) = (revision(etcd.get_ref()), revision(quorate.get_ref()));
        anyhow::ensure!(
            etcd == quorate,
            "the same put made revision {etcd} in etcd and {quorate} in Quorate"
        );
        self.state.current = etcd;
        Ok(etcd)
    }

    async fn reach(&mut self, stream: Stream, watcher: i64, revision: i64) -> Result<()> {
        for (name, subject) in [("etcd", &mut self.etcd), ("quorate", &mut self.quorate)] {
            let (streams, ids) = subject.streams();
            let reached = streams[stream as usize].reach(&ids, watcher, revision).await;
            reached.with_context(|| format!("{name}: watcher {watcher} of the {stream:?} stream"))?;
        }
        Ok(())
    }
}

/// The same of a call about users and roles.
fn not_comparable(call: &AuthCall) -> Option<&'static str> {
    if let AuthCall::UserAdd {
        password,
        no_password: false,
        ..
    }
    | AuthCall::UserChangePassword { password, .. } = call
        && password.is_empty()
    {
        return Some(EMPTY_PASSWORD);
    }
    if let AuthCall::Role(RoleCall::Grant { keys: Some(keys), .. } | RoleCall::Revoke { keys, .. }) = call {
        let Keys { key, range_end } = keys;
        let ends = range_end.is_empty() || &range_end[..] == b"\0" || range_end > key;
        return (key.is_empty() || !ends).then_some(PERMISSION_RANGE);
    }
    None
}

/// The difference for which etcd may do what is asked, whoever asks it.
fn asked_of_anybody(call: &Call) -> Option<&'static str> {
    if let Call::Compact { .. } = call {
        return Some(COMPACT_BY_OTHERS);
    }
    let unseen = matches!(call, Call::Txn(txn) if txn.is_empty() || txn.has_another());
    unseen.then_some(TXN_WITHOUT_RIGHTS)
}

/// How a call is refused of somebody who has no right to it.
const LACKS_A_RIGHT: [&str; 2] = ["etcdserver: user name is empty", "etcdserver: permission denied"];

/// What came of one call.
enum Made {
    Equal,
    Known(&'static str),
    Different { etcd: String, quorate: String },
}

fn failed(place: usize, error: &anyhow::Error) -> Divergence {
    Divergence {
        place,
        etcd: String::new(),
        quorate: format!("{error:#}"),
    }
}

fn resolve(state: State, revision: Rev) -> i64 {
    match revision {
        Rev::Exactly(number) => number,
        Rev::Current(distance) => state.current.saturating_add(distance),
        Rev::Compacted(distance) => state.compacted.saturating_add(distance),
    }
}

fn everything() -> Range {
    Range {
        keys: Keys {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
        },
        limit: 0,
        revision: Rev::Exactly(0),
        sort_order: 0,
        sort_target: 0,
        serializable: false,
        keys_only: false,
        count_only: false,
        min_mod: Rev::Exactly(0),
        max_mod: Rev::Exactly(0),
        min_create: Rev::Exactly(0),
        max_create: Rev::Exactly(0),
    }
}

/// A key that only barriers write.
const BARRIER_KEY: &[u8] = b"\xfebarrier";

/// A watcher of the barrier key on each stream, from the start.
const BARRIER: i64 = 1_000_000;

/// A watcher of the barrier key that starts in the past.
const LATE_BARRIER: i64 = 1_000_001;

/// How long two servers may tell their watchers different things.
const SETTLING: Duration = Duration::from_secs(3);
