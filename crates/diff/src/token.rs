//! The token that a client sends with each request.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// A token, shared by all clients of a server. None before anyone logs in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token(Arc<Mutex<Option<MetadataValue<Ascii>>>>);

impl Token {
    /// Sends this from here on, or nothing.
    pub(crate) fn set(&self, token: Option<MetadataValue<Ascii>>) {
        *self.0.lock() = token;
    }

    /// What was sent; nothing is from here on.
    pub(crate) fn take(&self) -> Option<MetadataValue<Ascii>> {
        self.0.lock().take()
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.lock().clone() {
            // Clients of etcd 3.4 and later send both.
            request.metadata_mut().insert("token", token.clone());
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}
