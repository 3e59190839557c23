//! The connections of a load: dealt over the endpoints, and moved on when a node is gone.

use crate::endpoint::{Target, TlsFlags, targets};
use crate::login::{Identified, LoginFlags, Token};
use crate::output;
use anyhow::Context;
use futures::future::join_all;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// One TCP connection that clients share. It is to one endpoint at a time.
pub(super) struct Connection {
    /// A channel to each endpoint, never empty; all but the one in use are connected when needed.
    channels: Vec<Channel>,
    token: Token,
    /// Counts the moves from one to the next.
    moves: AtomicUsize,
}

/// Which of a connection's moves a client has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Connection {
    /// The endpoint in use, and a client of it.
    pub(super) fn current(&self) -> (Place, KvClient<Identified>) {
        let moves = self.moves.load(Ordering::Relaxed);
        let channel = self.channels[moves % self.channels.len()].clone();
        (Place(moves), KvClient::new(self.token.on(channel)))
    }

    /// Leaves the endpoint in use at `place` for the next, unless another client did so already.
    pub(super) fn move_on(&self, place: Place) {
        let Place(moves) = place;
        // The one who loses the race finds what it wanted done.
        let _ =
            self.moves
                .compare_exchange(moves, moves.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Makes `count` connections, each to the next of the endpoints that can be reached.
///
/// # Errors
///
/// If one of the endpoints cannot be parsed, the certificates cannot be used, or no endpoint can be reached.
pub(super) async fn connect(
    endpoints: &[String],
    login: &LoginFlags,
    tls: &TlsFlags,
    count: NonZeroU64,
) -> anyhow::Result<Vec<Arc<Connection>>> {
    let endpoints = targets(endpoints, tls, set_up)?;
    let (living, first) = reachable(&endpoints).await?;
    let token = login.log_in_or_say(first).await?;
    Ok((0..count.get())
        .zip((0..living.len()).cycle())
        .map(|(_, first)| Arc::new(connection(&living, first, token.clone())))
        .collect())
}

/// A connection to the endpoint at `first`, with the ones after it to move on to.
fn connection(endpoints: &[Target], first: usize, token: Token) -> Connection {
    let in_turn = endpoints.iter().cycle().skip(first).take(endpoints.len());
    Connection {
        channels: in_turn.map(Target::connect_lazy).collect(),
        token,
        moves: AtomicUsize::new(0),
    }
}

/// The endpoints at which somebody listens, and a channel to the first; says which of the others are left out.
async fn reachable(endpoints: &[Target]) -> anyhow::Result<(Vec<Target>, Channel)> {
    let attempts = join_all(endpoints.iter().map(Target::connect)).await;
    let (mut living, mut failures) = (Vec::new(), Vec::new());
    let mut first = None;
    for (endpoint, attempt) in endpoints.iter().zip(attempts) {
        let address = endpoint.address();
        match attempt.with_context(|| format!("cannot reach {address}; is a node running there?")) {
            Ok(channel) => {
                living.push(endpoint.clone());
                first.get_or_insert(channel);
            }
            Err(error) => failures.push(error),
        }
    }
    let Some(first) = first else {
        let reason = failures.into_iter().next();
        return Err(reason.context("there is no endpoint to send requests to")?);
    };
    for error in failures {
        output::complain(&format!("{error} The other --endpoints are used"));
    }
    Ok((living, first))
}

fn set_up(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// HTTP/2 windows that many small requests on one connection never fill.
const WINDOW_BYTES: u32 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_first_of_many_failures_moves_a_connection() {
        let endpoints = ["127.0.0.1:1", "127.0.0.1:2"].map(str::to_owned);
        let endpoints = targets(&endpoints, &TlsFlags::default(), set_up).unwrap();
        let connection = connection(&endpoints, 1, Token::default());
        let (first, _) = connection.current();
        connection.move_on(first);
        let (second, _) = connection.current();
        assert_ne!(first, second);
        connection.move_on(first);
        assert_eq!(connection.current().0, second);
    }
}
