//! The cluster service of whichever endpoint answers.

use crate::endpoint::{Target, TlsFlags, targets};
use crate::login::{self, Identified, LoginFlags, Token};
use anyhow::{Context, anyhow, bail};
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, StatusRequest, StatusResponse,
};
use quorate_server::Url;
use std::fmt;
use std::time::Duration;
use tokio::sync::OnceCell;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// A cluster, by its client endpoints.
pub(super) struct Cluster {
    endpoints: Vec<(String, Channel)>,
    tls: TlsFlags,
    login: LoginFlags,
    /// Once an endpoint has taken the login.
    token: OnceCell<Token>,
}

/// A member that is to be.
pub(super) struct NewMember {
    pub(super) name: String,
    pub(super) peer_url: Url,
    kind: &'static str,
}

impl NewMember {
    /// One that keeps data.
    pub(super) fn full(name: String, peer_url: Url) -> Self {
        let kind = "full";
        Self { name, peer_url, kind }
    }

    /// One that only votes.
    pub(super) fn witness(name: String, peer_url: Url) -> Self {
        let kind = "witness";
        Self { name, peer_url, kind }
    }
}

impl NewMember {
    /// Where it serves clients, as far as that can be guessed: at the host at which its peers reach it.
    pub(super) fn client_url(&self) -> String {
        let url = self.peer_url.to_string();
        let host = url.rsplit_once(':').map_or(url.as_str(), |(host, _)| host);
        format!("{host}:2379")
    }
}

impl Cluster {
    /// The cluster at these endpoints; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If one of them is no endpoint, or the certificates cannot be used.
    pub(super) fn at(endpoints: &[String], tls: &TlsFlags, login: &LoginFlags) -> anyhow::Result<Self> {
        let targets = targets(endpoints, tls, set_up)?;
        let channels = targets.iter().map(Target::connect_lazy);
        Ok(Self {
            endpoints: endpoints.iter().cloned().zip(channels).collect(),
            tls: tls.clone(),
            login: login.clone(),
            token: OnceCell::new(),
        })
    }

    /// The same cluster at other endpoints.
    ///
    /// # Errors
    ///
    /// As [`Self::at`].
    pub(super) fn at_other(&self, endpoints: &[String]) -> anyhow::Result<Self> {
        Self::at(endpoints, &self.tls, &self.login)
    }

    /// The members.
    ///
    /// # Errors
    ///
    /// If no endpoint answers.
    pub(super) async fn members(&self) -> anyhow::Result<Vec<Member>> {
        let list = async |mut client: ClusterClient<Identified>| {
            let request = MemberListRequest { linearizable: true };
            Ok(client.member_list(request).await?.into_inner().members)
        };
        self.ask(list).await
    }

    /// The member of this name or id.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one, or no endpoint answers.
    pub(super) async fn find(&self, text: &str) -> anyhow::Result<Member> {
        let members = self.members().await?;
        let id = u64::from_str_radix(text, 16).ok();
        let is_meant = |member: &&Member| member.name == text || Some(member.id) == id;
        let mut found = members.iter().filter(is_meant);
        match (found.next(), found.next()) {
            (Some(member), None) => Ok(member.clone()),
            (Some(_), Some(_)) => bail!("more than one member is called {text}: give its id"),
            (None, _) => {
                let names = members.iter().map(|member| match member.name.as_str() {
                    // It was added, and has not been started.
                    "" => format!("{:016x} (not started)", member.id),
                    name => name.to_owned(),
                });
                let names: Vec<String> = names.collect();
                bail!("there is no member {text}; the members are {}", names.join(", "))
            }
        }
    }

    /// Adds a member, in the place of `dead` if there is one; its start may begin when this is done.
    ///
    /// # Errors
    ///
    /// If it is refused, or no endpoint answers.
    pub(super) async fn add(&self, new: &NewMember, dead: Option<u64>) -> anyhow::Result<MemberAddResponse> {
        let name = AsciiMetadataValue::try_from(new.name.as_str())
            .with_context(|| format!("a member cannot be called {:?}", new.name))?;
        let add = async |mut client: ClusterClient<Identified>| {
            let mut request = Request::new(MemberAddRequest {
                peer_ur_ls: vec![new.peer_url.to_string()],
                is_learner: false,
            });
            let metadata = request.metadata_mut();
            metadata.insert("quorate-name", name.clone());
            metadata.insert("quorate-kind", AsciiMetadataValue::from_static(new.kind));
            if let Some(dead) = dead
                && let Ok(dead) = AsciiMetadataValue::try_from(format!("{dead:016x}"))
            {
                metadata.insert("quorate-replaces", dead);
            }
            Ok(client.member_add(request).await?.into_inner())
        };
        self.ask(add).await
    }

    /// Removes a member; the members that are left.
    ///
    /// # Errors
    ///
    /// If it is refused, or no endpoint answers.
    pub(super) async fn remove(&self, id: u64) -> anyhow::Result<Vec<Member>> {
        let remove = async |mut client: ClusterClient<Identified>| {
            let removed = client.member_remove(MemberRemoveRequest { id }).await?;
            Ok(removed.into_inner().members)
        };
        self.ask(remove).await
    }

    /// Promotes a learner; the members as they are then.
    ///
    /// # Errors
    ///
    /// If it is refused, or no endpoint answers.
    pub(super) async fn promote(&self, id: u64) -> anyhow::Result<Vec<Member>> {
        let promote = async |mut client: ClusterClient<Identified>| {
            let promoted = client.member_promote(MemberPromoteRequest { id }).await?;
            Ok(promoted.into_inner().members)
        };
        self.ask(promote).await
    }

    /// What the first endpoint that answers says of itself.
    ///
    /// # Errors
    ///
    /// If none answers.
    pub(super) async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut last = anyhow!("there is no endpoint to ask");
        for (endpoint, channel) in &self.endpoints {
            let asked = async {
                let mut client = MaintenanceClient::new(self.identified(channel).await?);
                client.status(StatusRequest {}).await
            };
            match asked.await {
                Ok(status) => return Ok(status.into_inner()),
                Err(status) => last = anyhow!("{endpoint}: {}", status.message()),
            }
        }
        Err(last)
    }

    /// A channel as whoever asks; the first that is used logs in.
    async fn identified(&self, channel: &Channel) -> Result<Identified, Status> {
        let log_in = || self.login.log_in(channel.clone());
        let token = self.token.get_or_try_init(log_in).await?;
        Ok(token.on(channel.clone()))
    }

    /// Asks one endpoint after the other until one takes the request.
    async fn ask<T>(
        &self,
        request: impl AsyncFn(ClusterClient<Identified>) -> Result<T, Status>,
    ) -> anyhow::Result<T> {
        let mut refusals = Refusals::default();
        for (endpoint, channel) in &self.endpoints {
            let asked = async { request(ClusterClient::new(self.identified(channel).await?)).await };
            match asked.await {
                Ok(answer) => return Ok(answer),
                // Nobody answers there, or whoever does cannot reach a leader: another may.
                Err(status) if status.code() == Code::Unavailable && !is(&status, EtcdError::Unhealthy) => {
                    refusals.add(endpoint, &status);
                }
                Err(status) if is(&status, EtcdError::UserEmpty) => {
                    bail!("{}: {}", login::HINT, said(&status))
                }
                Err(status) => bail!("{}", said(&status)),
            }
        }
        Err(anyhow!("{refusals}"))
    }
}

/// Why none of the endpoints took a request.
#[derive(Default)]
struct Refusals {
    /// One of them says that there is no leader.
    is_leaderless: bool,
    /// One of them has waited in vain.
    is_late: bool,
    /// What those that answer say.
    answers: Vec<String>,
    /// Why the others cannot be reached.
    silences: Vec<String>,
}

impl Refusals {
    fn add(&mut self, endpoint: &str, status: &Status) {
        let line = format!("{endpoint}: {}", said(status));
        self.is_leaderless |= is(status, EtcdError::NoLeader);
        self.is_late |= LATE.iter().any(|error| is(status, *error));
        match status.message().starts_with("etcdserver: ") {
            true => self.answers.push(line),
            false => self.silences.push(line),
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answers, silences) = (self.answers.join("; "), self.silences.join("; "));
        match (self.answers.is_empty(), self.silences.is_empty()) {
            (true, true) => f.write_str("there is no endpoint to ask"),
            (true, false) => write!(
                f,
                "{silences}; is a node running there? --endpoints says whom to ask"
            ),
            (false, is_all) => {
                if self.is_leaderless {
                    f.write_str("the cluster has no leader, as without a majority of its voters: start those that are down. ")?;
                } else if self.is_late {
                    f.write_str("nothing was decided in time: a majority of the voters is down, or a change waits for a newcomer that has not been started (`quorate member list`). ")?;
                }
                f.write_str(&answers)?;
                match is_all {
                    true => Ok(()),
                    false => write!(f, "; no answer from {silences}"),
                }
            }
        }
    }
}

fn is(status: &Status, error: EtcdError) -> bool {
    status.message() == error.message()
}

const LATE: [EtcdError; 3] = [
    EtcdError::Timeout,
    EtcdError::TimeoutDueToLeaderFail,
    EtcdError::TimeoutDueToConnectionLost,
];

/// What a server says, without the name that this program puts before it.
fn said(status: &Status) -> &str {
    status.message().trim_start_matches("quorate: ")
}

fn set_up(endpoint: Endpoint) -> Endpoint {
    endpoint.connect_timeout(CONNECT).timeout(ANSWER)
}

const CONNECT: Duration = Duration::from_secs(3);
/// Longer than a member tries to serve a request.
const ANSWER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_that_was_asked_is_named_with_what_it_said() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.to_string(), "there is no endpoint to ask");
        refusals.add("c:1", &Status::unavailable("tcp connect error"));
        assert_eq!(
            refusals.to_string(),
            "c:1: tcp connect error; is a node running there? --endpoints says whom to ask"
        );
        refusals.add("d:1", &Status::unavailable("etcdserver: server stopped"));
        assert!(!refusals.to_string().contains("majority"), "{refusals}");
        refusals.add("b:1", &Status::unavailable("etcdserver: request timed out"));
        assert!(
            refusals.to_string().starts_with("nothing was decided in time"),
            "{refusals}"
        );
        refusals.add("a:1", &Status::unavailable("etcdserver: no leader"));
        let text = refusals.to_string();
        for part in [
            "no leader, as without a majority of its voters",
            "d:1: etcdserver: server stopped; b:1: etcdserver: request timed out; a:1: etcdserver: no leader; no answer from c:1: tcp connect error",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
