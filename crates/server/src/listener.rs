//! Connections of clients: gRPC over HTTP/2 and plain HTTP/1.1 on the same port.
//!
//! - A connection is a task of its own; a failed one is logged and harms no other.
//! - Each address has so many connections at most.
//! - Where TLS is spoken, there is a bound on the handshakes at one time, and a deadline for each.
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::addresses::Addresses;
use crate::authority::AnyAuthority;
use crate::config::KeepAlive;
use crate::flag::raised;
use crate::security::{ClientName, Entry};
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
}

/// Serves the connections that arrive at `listener` until `stop` turns true.
pub(crate) async fn serve<A: Answers>(
    listener: TcpListener,
    door: Door,
    surface: Arc<A>,
    mut stop: watch::Receiver<bool>,
) {
    let builder = Arc::new(builder(&door));
    let entry = door.entry;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (room, accepted) = accept(&listener, entry.as_deref()) => match accepted {
                Ok((stream, peer)) => {
                    let Some(entered) = door.addresses.enter(peer.ip().to_canonical()) else {
                        continue;
                    };
                    let (builder, surface) = (Arc::clone(&builder), Arc::clone(&surface));
                    let (entry, stop) = (entry.clone(), stop.clone());
                    connections.spawn(async move {
                        if let Some(stream) = enter(entry.as_deref(), stream, peer).await {
                            drop(room);
                            connection(builder, stream, peer, surface, stop).await;
                        }
                        drop(entered);
                    });
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

/// Takes the next connection, when there is room for its handshake if it is to make one.
async fn accept(
    listener: &TcpListener,
    entry: Option<&Entry>,
) -> (
    Option<OwnedSemaphorePermit>,
    std::io::Result<(TcpStream, SocketAddr)>,
) {
    let room = match entry {
        Some(entry) => entry.room().await,
        None => None,
    };
    (room, listener.accept().await)
}

/// Makes the handshake if TLS is spoken here; tells of one that fails.
async fn enter(entry: Option<&Entry>, stream: TcpStream, peer: SocketAddr) -> Option<Stream> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let Some(entry) = entry else {
        return Some(Stream::Plain(stream));
    };
    match entry.enter(stream).await {
        Ok(stream) => Some(stream),
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

async fn connection<A: Answers>(
    builder: Arc<auto::Builder<TokioExecutor>>,
    stream: Stream,
    peer: SocketAddr,
    surface: Arc<A>,
    mut stop: watch::Receiver<bool>,
) {
    let client = ClientName::of(&stream);
    let secured = match &stream {
        Stream::Plain(_) => None,
        Stream::Tls(_) => Some(ByTls),
    };
    let connection = builder.serve_connection(
        TokioIo::new(AnyAuthority::new(stream)),
        Calls {
            surface,
            client,
            secured,
        },
    );
    tokio::pin!(connection);
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

fn builder(door: &Door) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
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
    client: Option<ClientName>,
    secured: Option<ByTls>,
}

impl<A: Answers> Service<Request<Incoming>> for Calls<A> {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
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
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

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

    use super::*;

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
        let door = Door {
            entry: Some(entry),
            addresses: Arc::new(Addresses::new(3, Counter::default())),
            max_concurrent_streams: 10,
            keep_alive: KeepAlive::default(),
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

    #[tokio::test]
    async fn handshakes_at_one_time_are_bounded() {
        let patience = Duration::from_millis(500);
        let world = world(2, patience).await;
        let begun = Instant::now();
        let stalled = [(); 2].map(|()| TcpStream::connect(world.address));
        let stalled = futures::future::join_all(stalled).await;
        assert!(world.get(&Leaf::named("alice")).await.starts_with("HTTP/1.1 200"));
        assert!(
            begun.elapsed() >= patience,
            "it had to wait for those who stalled"
        );
        drop(stalled);
    }

    const HANDSHAKE: Duration = Duration::from_secs(60);
}
