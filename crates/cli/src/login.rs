//! Who our own clients are, where authentication is on.
//!
//! - The flags are etcdctl's, and its variables.
//! - Where it is off there is nobody to log in, and flags that say who asks do no harm.

use anyhow::{Context, anyhow};
use clap::Args;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::AuthenticateRequest;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The flags about who asks, of a command that is a client.
#[derive(Args, Clone, Default)]
pub(crate) struct LoginFlags {
    /// Who asks, if authentication is on
    #[arg(
        long,
        value_name = "NAME[:PASSWORD]",
        env = "ETCDCTL_USER",
        hide_env_values = true
    )]
    user: Option<String>,
    /// The password, if it is not in --user
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "ETCDCTL_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
}

/// What stands for whoever has logged in; nothing for nobody.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<AsciiMetadataValue>);

/// A channel whose calls say who asks.
pub(crate) type Identified = InterceptedService<Channel, Token>;

impl Token {
    /// The channel, with this token.
    pub(crate) fn on(&self, channel: Channel) -> Identified {
        InterceptedService::new(channel, self.clone())
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

impl LoginFlags {
    /// Logs in, if the flags say as whom.
    ///
    /// # Errors
    ///
    /// What the server says: that the password is wrong, or that it cannot be asked.
    pub(crate) async fn log_in(&self, channel: Channel) -> Result<Token, Status> {
        let Some(user) = &self.user else {
            return Ok(Token::default());
        };
        let (name, password) = match &self.password {
            Some(password) => (user.as_str(), password.as_str()),
            None => user.split_once(':').unwrap_or((user, "")),
        };
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        match AuthClient::new(channel).authenticate(request).await {
            Ok(answer) => {
                let token = answer.into_inner().token.parse();
                let token = token.map_err(|_| Status::internal("the token of the login is no text"))?;
                Ok(Token(Some(token)))
            }
            Err(status) if status.message() == EtcdError::AuthNotEnabled.message() => Ok(Token::default()),
            Err(status) => Err(status),
        }
    }

    /// As [`Self::log_in`], for a command that asks one member only.
    ///
    /// # Errors
    ///
    /// As [`Self::log_in`], in a sentence.
    pub(crate) async fn log_in_or_say(&self, channel: Channel) -> anyhow::Result<Token> {
        let outcome = self.log_in(channel).await;
        outcome
            .map_err(|status| anyhow!("{}", status.message()))
            .context("cannot log in")
    }
}

/// What is said to somebody who has to log in.
pub(crate) const HINT: &str =
    "authentication is on: say who asks with --user NAME:PASSWORD, or with ETCDCTL_USER";
