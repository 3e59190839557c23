//! The connection of a command to its cluster.
//!
//! - One endpoint at a time is connected: the first that can be. When it is gone the next one is.
//! - A request that only reads is sent again if its server is not available; one that changes something is
//!   not, since it may have happened. Both wait for an endpoint to connect to, until their time is up.
//! - Whoever logs in does so on each new connection, and again when the token is not good any more.

use super::failure::{self, Failure, cause, code};
use super::flags::Global;
use crate::endpoint::{Target, Tls, target};
use crate::output;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::AuthenticateRequest;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// A cluster, by its client endpoints.
pub(super) struct Client {
    endpoints: Vec<(String, Target)>,
    settings: Arc<Settings>,
    state: Mutex<State>,
}

struct Settings {
    tls: Tls,
    credentials: Option<Credentials>,
    dial_timeout: Duration,
    command_timeout: Duration,
    keepalive_time: Duration,
    keepalive_timeout: Duration,
}

/// Who logs in.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// Whoever knows the password.
    Password {
        /// Of the user.
        name: String,
        /// Theirs.
        password: String,
    },
    /// Whoever has this token, which was not made for this connection.
    Token(AsciiMetadataValue),
}

#[derive(Default)]
struct State {
    /// The endpoint to use, or to try first.
    place: usize,
    connected: Option<Service>,
    /// Why the last attempt to reach an endpoint failed.
    trouble: Option<String>,
}

/// One endpoint, connected; with the token of whoever logged in.
pub(super) type Service = InterceptedService<Channel, Token>;

/// What is sent with every request.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Option<AsciiMetadataValue>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// What a request does, and so whether it may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only reads.
    Reads,
    /// It changes something.
    Writes,
}

impl Client {
    /// The cluster that the flags speak of; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the flags make no sense.
    pub(super) fn new(flags: &Global) -> Result<Self, Failure> {
        let settings = Settings {
            tls: flags.tls()?,
            credentials: flags.credentials()?,
            dial_timeout: flags.dial_timeout,
            command_timeout: flags.command_timeout,
            keepalive_time: flags.keepalive_time,
            keepalive_timeout: flags.keepalive_timeout,
        };
        Self::with(flags.endpoints.clone(), Arc::new(settings))
    }

    /// The same cluster at other endpoints.
    ///
    /// # Errors
    ///
    /// If one of them is no endpoint.
    pub(super) fn at(&self, endpoints: Vec<String>) -> Result<Self, Failure> {
        Self::with(endpoints, Arc::clone(&self.settings))
    }

    /// Another cluster, talked to in another way with the same patience.
    ///
    /// # Errors
    ///
    /// If the endpoint is none.
    pub(super) fn elsewhere(
        &self,
        endpoint: String,
        tls: Tls,
        credentials: Option<Credentials>,
    ) -> Result<Self, Failure> {
        let settings = Settings {
            tls,
            credentials,
            ..*self.settings
        };
        Self::with(vec![endpoint], Arc::new(settings))
    }

    fn with(endpoints: Vec<String>, settings: Arc<Settings>) -> Result<Self, Failure> {
        let set_up = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(settings.dial_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(settings.keepalive_time)
                .keep_alive_timeout(settings.keepalive_timeout)
        };
        let endpoints = endpoints.into_iter().map(|text| {
            let target = target(&text, &settings.tls, set_up);
            let target = target.map_err(|error| Failure::arguments(format!("{error:#}")))?;
            Ok((text, target))
        });
        let endpoints: Vec<(String, Target)> = endpoints.collect::<Result<_, Failure>>()?;
        match endpoints.is_empty() {
            true => Err(Failure::arguments("no endpoint is given")),
            false => Ok(Self {
                endpoints,
                settings,
                state: Mutex::default(),
            }),
        }
    }

    /// The endpoints as they were given.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.endpoints.iter().map(|(text, _)| text.clone()).collect()
    }

    /// How long a short command may take.
    pub(super) fn command_timeout(&self) -> Duration {
        self.settings.command_timeout
    }

    /// Sends a request and waits for its answer, for as long as a command may take.
    ///
    /// # Errors
    ///
    /// As the server refuses it; or if nobody answers in time.
    pub(super) async fn ask<T>(
        &self,
        effect: Effect,
        request: impl AsyncFn(Service) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.ask_within(self.settings.command_timeout, effect, request)
            .await
    }

    /// [`Self::ask`] with another limit.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(super) async fn ask_within<T>(
        &self,
        limit: Duration,
        effect: Effect,
        request: impl AsyncFn(Service) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let answer = timeout(limit, self.persist(effect, request)).await;
        answer.unwrap_or_else(|_| {
            if let Some(trouble) = self.state().trouble.take() {
                output::complain(&trouble);
            }
            Err(Failure::deadline())
        })
    }

    async fn persist<T>(
        &self,
        effect: Effect,
        request: impl AsyncFn(Service) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut is_token_new = false;
        loop {
            let status = match request(self.service().await?).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if is_stale(&status) && self.settings.credentials.is_some() && !is_token_new {
                is_token_new = true;
                self.state().connected = None;
            } else if status.code() == Code::Unavailable || failure::is_of_connection(&status) {
                self.leave(&status);
                match effect {
                    Effect::Reads => sleep(PAUSE).await,
                    Effect::Writes => return Err(status.into()),
                }
            } else {
                return Err(status.into());
            }
        }
    }

    /// An endpoint that is connected; waits for one, in turns, for as long as it takes.
    ///
    /// # Errors
    ///
    /// If nobody can log in as whoever should.
    pub(super) async fn service(&self) -> Result<Service, Failure> {
        loop {
            for _ in &self.endpoints {
                let (place, connected) = {
                    let state = self.state();
                    (state.place, state.connected.clone())
                };
                if let Some(service) = connected {
                    return Ok(service);
                }
                let (text, target) = &self.endpoints[place % self.endpoints.len()];
                let attempt = timeout(self.settings.dial_timeout, target.connect()).await;
                let reason = match attempt {
                    Ok(Ok(channel)) => match self.log_in(channel).await? {
                        Ok(service) => {
                            self.state().connected = Some(service.clone());
                            return Ok(service);
                        }
                        Err(status) => failure::text(&status),
                    },
                    Ok(Err(error)) => cause(&error),
                    Err(_) => "it does not answer".to_string(),
                };
                let mut state = self.state();
                state.trouble = Some(format!("cannot reach {text}: {reason}"));
                state.place = place + 1;
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives up the connection because of an answer, so that the next endpoint is tried.
    pub(super) fn leave(&self, status: &Status) {
        let mut state = self.state();
        let (text, _) = &self.endpoints[state.place % self.endpoints.len()];
        state.trouble = Some(format!("{text}: {}", failure::text(status)));
        state.connected = None;
        state.place += 1;
    }

    /// The channel with a token; or what the server says if it cannot answer yet.
    async fn log_in(&self, channel: Channel) -> Result<Result<Service, Status>, Failure> {
        let bare = InterceptedService::new(channel.clone(), Token::default());
        let (name, password) = match self.settings.credentials.clone() {
            None => return Ok(Ok(bare)),
            Some(Credentials::Token(token)) => {
                return Ok(Ok(InterceptedService::new(channel, Token(Some(token)))));
            }
            Some(Credentials::Password { name, password }) => (name, password),
        };
        let request = AuthenticateRequest { name, password };
        match AuthClient::new(bare.clone()).authenticate(request).await {
            Ok(answer) => match AsciiMetadataValue::try_from(answer.into_inner().token) {
                Ok(token) => Ok(Ok(InterceptedService::new(channel, Token(Some(token))))),
                Err(_) => Err(Failure::with(
                    code::BAD_CONNECTION,
                    "the server's token is no text",
                )),
            },
            Err(status) if status.message() == EtcdError::AuthNotEnabled.message() => Ok(Ok(bare)),
            Err(status) if status.code() == Code::Unavailable => Ok(Err(status)),
            Err(status) => Err(Failure::from(status).exits_with(code::BAD_CONNECTION)),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No holder of the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the token that the request came with is not good any more.
fn is_stale(status: &Status) -> bool {
    let stale = [EtcdError::InvalidAuthToken, EtcdError::AuthOldRevision];
    stale.iter().any(|error| error.message() == status.message())
}

pub(super) fn kv(service: Service) -> KvClient<Service> {
    KvClient::new(service).max_decoding_message_size(usize::MAX)
}

pub(super) fn watch(service: Service) -> WatchClient<Service> {
    WatchClient::new(service).max_decoding_message_size(usize::MAX)
}

pub(super) fn lease(service: Service) -> LeaseClient<Service> {
    LeaseClient::new(service).max_decoding_message_size(usize::MAX)
}

pub(super) fn cluster(service: Service) -> ClusterClient<Service> {
    ClusterClient::new(service)
}

pub(super) fn maintenance(service: Service) -> MaintenanceClient<Service> {
    MaintenanceClient::new(service).max_decoding_message_size(usize::MAX)
}

pub(super) fn auth(service: Service) -> AuthClient<Service> {
    AuthClient::new(service).max_decoding_message_size(usize::MAX)
}

const PAUSE: Duration = Duration::from_millis(50);
