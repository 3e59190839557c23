//! Connections of clients: gRPC over HTTP/2 and plain HTTP/1.1 on the same port.
//!
//! - A connection is a task of its own; a failed one is logged and harms no other.
//! - Each address has so many connections at most.
//! - Where TLS is spoken, there is a bound on the handshakes at one time, and a deadline for each. An address has a
//!   share of them, and waits for its own: no address keeps another from being accepted.
//! - A client must say in time what it speaks: see [`crate::prompt`].
//! - At shutdown, connections finish what they have begun and are then cut.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use quorate_tls::Stream;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::addresses::{Addresses, ClientAddress, Entered};
use crate::authority::AnyAuthority;
use crate::config::KeepAlive;
use crate::flag::raised;
use crate::prompt::Prompt;
use crate::reading::ReadBy;
use crate::security::{ClientName, Entry, Standing};
use crate::surface::{Answering, Surface};
use crate::web::ByTls;

/// On which terms connections are taken at a listener.
#[derive(Clone)]
pub(crate) struct Door {
    /// TLS is spoken if there is one.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Shared by all listeners.
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) keep_alive: KeepAlive,
    /// How long a client may take to begin a request.
    pub(crate) patience: Duration,
}

/// Serves the connections that arrive at `listener` until `stop` turns true.
pub(crate) async fn serve<A: Answers>(
    listener: TcpListener,
    door: Door,
    surface: Arc<A>,
    mut stop: watch::Receiver<bool>,
) {
    let common = Arc::new(Common {
        builder: builder(&door),
        door,
        surface,
        stop: stop.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(entered) = common.door.addresses.enter(peer.ip()) {
                        connections.spawn(Arc::clone(&common).receive(stream, peer, entered));
                    }
                }
                // Out of file descriptors, most likely: waiting beats spinning.
                Err(error) => {
                    tracing::warn!(%error, "a client connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = raised(&mut stop) => break,
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is left after the grace is cut when the set is dropped.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, finish).await;
}

/// What all connections of a listener share.
struct Common<A> {
    door: Door,
    builder: auto::Builder<TokioExecutor>,
    surface: Arc<A>,
    stop: watch::Receiver<bool>,
}

impl<A: Answers> Common<A> {
    /// Serves a connection until it ends.
    async fn receive(self: Arc<Common<A>>, stream: TcpStream, peer: SocketAddr, entered: Entered) {
        prepare(&stream, peer);
        let Some(entry) = &self.door.entry else {
            return self.converse(Stream::Plain(stream), peer).await;
        };
        let Some((stream, standing)) = shake_hands(entry, stream, peer, &entered).await else {
            return;
        };
        tokio::select! {
            () = self.converse(stream, peer) => {}
            () = entry.revoked(standing) => {
                tracing::warn!(%peer, "a connection was closed: its client's certificate was revoked");
            }
        }
    }

    async fn converse(&self, stream: Stream, peer: SocketAddr) {
        let calls = Calls::of(&stream, peer, Arc::clone(&self.surface));
        let stream = ReadBy::new(Prompt::within(self.door.patience), stream);
        let stream = ReadBy::new(AnyAuthority::new(), stream);
        let connection = self.builder.serve_connection(TokioIo::new(stream), calls);
        tokio::pin!(connection);
        let mut stop = self.stop.clone();
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = raised(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%peer, %error, "a client connection broke");
        }
    }
}

/// Makes the handshake on a connection when its turn has come; tells of one that fails.
async fn shake_hands(
    entry: &Entry,
    stream: TcpStream,
    peer: SocketAddr,
    entered: &Entered,
) -> Option<(Stream, Standing)> {
    // Its own share first: whoever waits for that holds nothing that others wait for.
    let _turn = entered.turn().await;
    let _room = entry.room().await;
    match entry.enter(stream).await {
        Ok(shaken) => Some(shaken),
        Err(error) if entry.is_due(Instant::now()) => {
            tracing::warn!(%peer, %error, "a client was refused");
            None
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "a client was refused");
            None
        }
    }
}

/// Sets what the system is to do for a connection.
fn prepare(stream: &TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    // By HTTP/1.1 nobody asks a client that listens to a stream whether it is still there.
    let probes = TcpKeepalive::new()
        .with_time(PROBE_TIME)
        .with_interval(PROBE_TIME);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!(%peer, %error, "SO_KEEPALIVE was refused");
    }
}

fn builder(door: &Door) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(door.patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(door.max_concurrent_streams)
        .keep_alive_interval(door.keep_alive.interval)
        .keep_alive_timeout(door.keep_alive.timeout);
    builder
}

/// What answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering;
}

impl Answers for Surface {
    fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
        Surface::answer(self, request)
    }
}

/// The surface as one connection calls it.
struct Calls<A> {
    surface: Arc<A>,
    address: ClientAddress,
    client: Option<ClientName>,
    secured: Option<ByTls>,
}

impl<A> Calls<A> {
    /// The calls of a connection.
    fn of(stream: &Stream, peer: SocketAddr, surface: Arc<A>) -> Calls<A> {
        Calls {
            surface,
            address: ClientAddress(peer),
            client: ClientName::of(stream),
            secured: match stream {
                Stream::Plain(_) => None,
                Stream::Tls(_) => Some(ByTls),
            },
        }
    }
}

impl<A: Answers> Service<Request<Incoming>> for Calls<A> {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.address);
        if let Some(client) = &self.client {
            request.extensions_mut().insert(client.clone());
        }
        if let Some(secured) = self.secured {
            request.extensions_mut().insert(secured);
        }
        self.surface.answer(request)
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
const PROBE_TIME: Duration = Duration::from_secs(30);

/// A request of the greatest size fits into a stream's window without waiting for an update.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use parking_lot::Mutex;
    use prometheus_client::metrics::counter::Counter;
    use quorate_tls::testing::{Authority, Leaf};
    use quorate_tls::{Acceptor, Clients, Connector, Trust};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;
    use crate::addresses::Most;

    /// Remembers who asked.
    #[derive(Default)]
    struct Names(Mutex<Vec<Option<ClientName>>>);

    impl Answers for Names {
        fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
            let name = request.extensions().get().cloned();
            self.0.lock().push(name);
            let answer = Response::builder().status(StatusCode::OK);
            let answer = answer.body(tonic::body::Body::empty()).unwrap();
            Answering::uncounted(Box::pin(std::future::ready(Ok(answer))))
        }
    }

    /// A listener that remembers, and those who may connect to it.
    struct World {
        authority: Authority,
        directory: TempDir,
        names: Arc<Names>,
        address: SocketAddr,
        _stop: watch::Sender<bool>,
    }

    async fn world(handshakes: usize, patience: Duration) -> World {
        let (authority, directory) = (Authority::new("ca"), tempfile::tempdir().unwrap());
        let pair = authority.issue(directory.path(), "server", &Leaf::for_hosts(["127.0.0.1"]));
        let clients = Clients::CertifiedBy(authority.write(directory.path(), "ca"));
        let acceptor = Acceptor::open(pair, &clients, &[b"h2", b"http/1.1"]).unwrap();
        let entry = Arc::new(Entry::new(acceptor, handshakes, patience));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names = Arc::new(Names::default());
        let (_stop, stopping) = watch::channel(false);
        let most = Most {
            connections: 3,
            handshakes: 2,
        };
        let door = Door {
            entry: Some(entry),
            addresses: Arc::new(Addresses::new(most, Counter::default())),
            max_concurrent_streams: 10,
            keep_alive: KeepAlive::default(),
            patience: HANDSHAKE,
        };
        tokio::spawn(serve(listener, door, Arc::clone(&names), stopping));
        World {
            authority,
            directory,
            names,
            address,
            _stop,
        }
    }

    impl World {
        async fn get(&self, leaf: &Leaf) -> String {
            let pair = self.authority.issue(self.directory.path(), "client", leaf);
            let trust = Trust::CertifiedBy(self.authority.write(self.directory.path(), "ca"));
            let connector = Connector::open(Some(pair), &trust, &[]).unwrap();
            let stream = TcpStream::connect(self.address).await.unwrap();
            let patience = Duration::from_secs(60);
            let mut stream = connector.connect("127.0.0.1", stream, patience).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        fn last_name(&self) -> Option<String> {
            let names = self.names.0.lock();
            let last = names.last().unwrap().as_ref();
            last.map(|name| name.as_str().to_owned())
        }
    }

    #[tokio::test]
    async fn a_request_carries_the_name_in_its_clients_certificate() {
        let world = world(10, HANDSHAKE).await;
        assert!(world.get(&Leaf::named("alice")).await.starts_with("HTTP/1.1 200"));
        assert_eq!(world.last_name().as_deref(), Some("alice"));
        for nobody in [Leaf::default(), Leaf::named("alice").and_named("root")] {
            world.get(&nobody).await;
            assert_eq!(world.last_name(), None);
        }
        assert_eq!(world.names.0.lock().len(), 3);
    }

    /// Connections from another address than that of [`World::get`], on which nothing is said.
    async fn stall(world: &World, count: usize) -> Vec<TcpStream> {
        let mut stalled = Vec::new();
        for _ in 0..count {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            stalled.push(socket.connect(world.address).await.unwrap());
        }
        stalled
    }

    #[tokio::test]
    async fn an_address_that_stalls_keeps_no_other_waiting() {
        let world = world(3, HANDSHAKE).await;
        let stalled = stall(&world, 3).await;
        let alice = Leaf::named("alice");
        let answer = tokio::time::timeout(HANDSHAKE / 2, world.get(&alice)).await;
        let answer = answer.expect("it waits for another address");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(stalled);
    }

    #[tokio::test]
    async fn handshakes_at_one_time_are_bounded() {
        let patience = Duration::from_millis(500);
        let world = world(2, patience).await;
        let begun = Instant::now();
        let stalled = stall(&world, 2).await;
        assert!(world.get(&Leaf::named("alice")).await.starts_with("HTTP/1.1 200"));
        assert!(
            begun.elapsed() >= patience,
            "it had to wait for those who stalled"
        );
        drop(stalled);
    }

    const HANDSHAKE: Duration = Duration::from_secs(60);
}
