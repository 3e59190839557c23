//! What is said of a new member in the metadata of a MemberAdd, for etcd's request has no field for it.

use quorate::{MemberKind, NodeId};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// What is asked of a new member beside etcd's request.
pub(super) struct Extras {
    pub(super) name: String,
    pub(super) kind: MemberKind,
    pub(super) replaces: Option<NodeId>,
}

impl Extras {
    /// What the metadata of a request say.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(super) fn of(metadata: &MetadataMap) -> Result<Extras, Status> {
        let text = |key: &'static str| {
            let value = metadata.get(key).map(|value| value.to_str()).transpose();
            value.map_err(|_| Status::invalid_argument(format!("quorate: {key} is not text")))
        };
        let replaces = text("quorate-replaces")?.map(|id| u64::from_str_radix(id, 16));
        let replaces = replaces.transpose().map_err(|_| {
            Status::invalid_argument("quorate: quorate-replaces is a member's id in hexadecimal digits")
        })?;
        Ok(Extras {
            name: text("quorate-name")?.unwrap_or_default().to_owned(),
            kind: match text("quorate-kind")? {
                None | Some("full") => MemberKind::Full,
                Some("witness") => MemberKind::Witness,
                Some(_) => {
                    let problem = "quorate: quorate-kind is full or witness";
                    return Err(Status::invalid_argument(problem));
                }
            },
            replaces: replaces.map(NodeId),
        })
    }
}
