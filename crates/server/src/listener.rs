//! Connections of clients: gRPC over HTTP/2 and plain HTTP/1.1 on the same port.
//!
//! - A connection is a task of its own; a failed one is logged and harms no other.
//! - At shutdown, connections finish what they have begun and are then cut.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::flag::raised;
use crate::surface::Surface;

/// Serves the connections that arrive at `listener` until `stop` turns true.
pub(crate) async fn serve(
    listener: TcpListener,
    surface: Arc<Surface>,
    max_concurrent_streams: u32,
    mut stop: watch::Receiver<bool>,
) {
    let builder = Arc::new(builder(max_concurrent_streams));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (builder, surface) = (Arc::clone(&builder), Arc::clone(&surface));
                    connections.spawn(connection(builder, stream, peer, surface, stop.clone()));
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

async fn connection(
    builder: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    peer: SocketAddr,
    surface: Arc<Surface>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let connection = builder.serve_connection(TokioIo::new(stream), Calls(surface));
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

fn builder(max_concurrent_streams: u32) -> auto::Builder<TokioExecutor> {
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
        .max_concurrent_streams(max_concurrent_streams)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// The surface as one connection calls it.
struct Calls(Arc<Surface>);

impl Service<Request<Incoming>> for Calls {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = crate::surface::Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.answer(request)
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request of the greatest size fits into a stream's window without waiting for an update.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// etcd's `--grpc-keepalive-interval` is two hours; a dead client is noticed sooner here.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
