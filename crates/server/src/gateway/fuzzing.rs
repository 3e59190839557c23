//! Messages as JSON, for the fuzz targets.

use bytes::Bytes;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use quorate_etcd_api::DESCRIPTOR_SET;
use tonic::Status;

use super::documents::Documents;
use super::json::Shape;

/// All messages of the API, each with its descriptor.
pub struct Gateway(Vec<(MessageDescriptor, Shape)>);

impl Gateway {
    /// As the gateway makes them.
    #[must_use]
    pub fn new() -> Gateway {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("the descriptor set is checked in");
        let messages = pool
            .all_messages()
            .map(|message| (message.clone(), Shape::of(message)));
        Gateway(messages.collect())
    }

    /// How many messages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What the message at a place looks like.
    #[must_use]
    pub fn descriptor(&self, place: usize) -> MessageDescriptor {
        self.0[place].0.clone()
    }

    /// Reads one, as protobuf.
    ///
    /// # Errors
    /// As clients are told.
    pub fn read(&self, place: usize, json: &[u8]) -> Result<Bytes, Status> {
        Ok(self.0[place].1.read(json)?)
    }

    /// Writes one that is protobuf.
    ///
    /// # Errors
    /// As clients are told.
    pub fn write(&self, place: usize, message: Bytes) -> Result<Vec<u8>, Status> {
        let mut json = Vec::new();
        self.0[place].1.write(message, &mut json)?;
        Ok(json)
    }
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway::new()
    }
}

/// The objects of a body that arrives in these pieces, each of at most so many bytes; and what is wrong
/// with the rest.
#[must_use]
pub fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, max_bytes: usize) -> (Vec<Bytes>, Option<Status>) {
    let mut documents = Documents::new(max_bytes);
    let mut found = Vec::new();
    for piece in pieces {
        documents.push(piece);
        loop {
            match documents.next() {
                Ok(Some(document)) => found.push(document),
                Ok(None) => break,
                Err(error) => return (found, Some(error.into())),
            }
        }
    }
    let end = documents.end();
    (found, end.err().map(Status::from))
}
