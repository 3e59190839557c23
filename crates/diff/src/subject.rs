//! One of the two servers: its clients, its ids, and its watch streams. What is asked of it is in `ask`.

use std::time::Duration;

use anyhow::{Context, Result};
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::call::Stream;
use crate::outcome::{Ids, Normalize, Outcome};
use crate::token::Token;
use crate::watches::{Answer, WatchStream};
use crate::wire::Env;

/// A connection that carries a token.
pub(crate) type Wire = InterceptedService<Channel, Token>;

/// The revisions that both servers have reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

/// One server.
pub(crate) struct Subject {
    channel: Channel,
    pub(crate) kv: KvClient<Wire>,
    pub(crate) lease: LeaseClient<Wire>,
    pub(crate) cluster: ClusterClient<Wire>,
    pub(crate) maintenance: MaintenanceClient<Wire>,
    pub(crate) auth: AuthClient<Wire>,
    pub(crate) token: Token,
    pub(crate) streams: [WatchStream; 2],
    cluster_id: u64,
    member_id: u64,
    pub(crate) picked: Vec<i64>,
    /// As the server tells it.
    pub(crate) version: String,
}

impl Subject {
    /// Connects to a server as soon as it serves.
    pub(crate) async fn connect(endpoint: &str) -> Result<Subject> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(Duration::from_secs(2))
            .timeout(PATIENCE)
            .tcp_nodelay(true)
            .connect_lazy();
        let token = Token::default();
        let wire = InterceptedService::new(channel.clone(), token.clone());
        let mut maintenance = MaintenanceClient::new(wire.clone());
        let mut kv = KvClient::new(wire.clone()).max_decoding_message_size(usize::MAX);
        wait_until_it_serves(&mut kv)
            .await
            .with_context(|| format!("{endpoint} does not serve"))?;
        let status = maintenance.status(pb::StatusRequest {}).await?.into_inner();
        let header = status.header.unwrap_or_default();
        Ok(Subject {
            kv,
            lease: LeaseClient::new(wire.clone()),
            cluster: ClusterClient::new(wire.clone()),
            auth: AuthClient::new(wire),
            token,
            maintenance,
            streams: [
                WatchStream::open(channel.clone()).await?,
                WatchStream::open(channel.clone()).await?,
            ],
            channel,
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            picked: Vec::new(),
            version: status.version,
        })
    }

    /// Closes a watch stream and opens it anew.
    pub(crate) async fn reopen(&mut self, place: usize) -> Result<()> {
        self.streams[place] = WatchStream::open(self.channel.clone()).await?;
        Ok(())
    }

    /// What replaces this server's ids.
    pub(crate) fn ids(&self) -> Ids<'_> {
        Ids {
            cluster: self.cluster_id,
            member: self.member_id,
            leases: &self.picked,
        }
    }

    /// This server's watch streams, and what replaces its ids.
    pub(crate) fn streams(&mut self) -> (&mut [WatchStream; 2], Ids<'_>) {
        let ids = Ids {
            cluster: self.cluster_id,
            member: self.member_id,
            leases: &self.picked,
        };
        (&mut self.streams, ids)
    }

    pub(crate) fn env(&self, state: State) -> Env<'_> {
        Env {
            current: state.current,
            compacted: state.compacted,
            picked: &self.picked,
            member: self.member_id,
        }
    }

    pub(crate) fn outcome<T: Normalize + std::fmt::Debug>(
        &self,
        response: Result<Response<T>, Status>,
    ) -> Outcome {
        match response {
            Ok(response) => Outcome::answer(response.into_inner(), &self.ids()),
            Err(status) => Outcome::refusal(&status),
        }
    }

    /// Creates a watcher, and waits for the answer.
    pub(crate) async fn create_watch(
        &mut self,
        stream: Stream,
        request: pb::WatchCreateRequest,
    ) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        stream.send(RequestUnion::CreateRequest(request)).await?;
        let answer = stream
            .answer(&ids, |answer| matches!(answer, Answer::Created(_)))
            .await?;
        Ok(answer_outcome(answer, &ids))
    }

    /// Cancels a watcher, and waits for the answer if there will be one.
    pub(crate) async fn cancel_watch(&mut self, stream: Stream, id: i64) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        let request = pb::WatchCancelRequest { watch_id: id };
        stream.send(RequestUnion::CancelRequest(request)).await?;
        if !stream.is_watching(id) {
            return Ok(Outcome::note("nothing was canceled"));
        }
        let canceled = |answer: &Answer| matches!(answer, Answer::Canceled(canceled) if *canceled == id);
        let answer = stream.answer(&ids, canceled).await?;
        Ok(answer_outcome(answer, &ids))
    }

    pub(crate) async fn progress(&mut self, stream: Stream) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        let request = pb::WatchProgressRequest {};
        stream.send(RequestUnion::ProgressRequest(request)).await?;
        let answer = stream
            .answer(&ids, |answer| matches!(answer, Answer::Progress(_)))
            .await?;
        Ok(answer_outcome(answer, &ids))
    }
}

fn answer_outcome(answer: Answer, ids: &Ids<'_>) -> Outcome {
    match answer {
        Answer::Created(response) | Answer::Progress(response) => Outcome::answer(response, ids),
        // What it says is among the watcher's changes.
        Answer::Canceled(id) => Outcome::note(format!("watcher {id} was canceled")),
    }
}

async fn wait_until_it_serves(kv: &mut KvClient<Wire>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + STARTING;
    loop {
        let request = pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        };
        match kv.range(request).await {
            Ok(_) => return Ok(()),
            Err(status) if tokio::time::Instant::now() > deadline => return Err(status.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a server may take to start.
const STARTING: Duration = Duration::from_secs(30);
